"""The checker of types and shapes that the tests switch on for all of `lapa` (see pyproject.toml)."""

from typing import Any, Self

from beartype import BeartypeConf, BeartypeStrategy, FrozenDict, beartype

# jaxtyping decorates functions one by one, where beartype cannot know what `Self` is.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), strategy=BeartypeStrategy.O1))
