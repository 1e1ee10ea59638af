"""The checker of shapes that the tests switch on for models and training (see pyproject.toml)."""

from collections.abc import Callable
from typing import Any, Self, TypeVar, get_args

from beartype import BeartypeConf, FrozenDict, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception
from jaxtyping import AbstractArray

Function = TypeVar("Function", bound=Callable[..., Any])

# jaxtyping hands over functions one by one, where beartype cannot know what `Self` is.
_CONFIGURATION = BeartypeConf(hint_overrides=FrozenDict({Self: Any}))


def check(function: Function) -> Function:
    """Check a function's arguments and result if it says a shape; other types are the type checker's business."""
    if not any(_says_a_shape(hint) for hint in function.__annotations__.values()):
        return function
    try:
        return beartype(function, conf=_CONFIGURATION)
    except BeartypeDecorHintPep3119Exception:  # takes a protocol, which cannot be checked while it runs
        return function


def _says_a_shape(hint: Any) -> bool:
    is_shape = isinstance(hint, type) and issubclass(hint, AbstractArray)
    return is_shape or any(_says_a_shape(inner) for inner in get_args(hint))
