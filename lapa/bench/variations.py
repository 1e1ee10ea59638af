"""What tells a row from `lapa`, read off the runs themselves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lapa.bench.collect import ArmResult
from lapa.bench.methods import METHODS
from lapa.bench.results import Variation
from lapa.config.run import RunConfig


def variations_of(results: Sequence[ArmResult]) -> Iterator[Variation]:
    """One per method that differs from `lapa` in one setting, where `lapa` is there in the same setting and seed."""
    runs = {(item.arm.method, item.arm.setting, item.arm.seed): item.arm.run for item in results}
    found: dict[str, Variation] = {}
    for (name, setting, seed), run in runs.items():
        method, ours = METHODS[name], runs.get(("lapa", setting, seed))
        if method.varies and ours and name not in found:
            values = {"value": _words(run, method.varies), "ours": _words(ours, method.varies)}
            found[name] = Variation(method=name, role=method.role, key=method.varies, **values)
    yield from found.values()


def _words(run: RunConfig, key: str) -> str:
    """A setting's value as YAML spells it; `null` also where it stands in a choice that was not made."""
    value: Any = run.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)
