"""Settings as `--set` names them: which differ, and how they read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lapa.config.base import result_settings
from lapa.config.presets import PRESETS
from lapa.config.run import RunConfig
from lapa.report.summary import PresetDifference, SettingChange

LONGEST = 80


def flat_settings(run: RunConfig) -> dict[str, Any]:
    """`a.b` -> value, for every setting that decides a result; the seed and the name are left to the caller."""
    settings = {key: value for key, value in result_settings(run).items() if key not in ("name", "seed")}
    return _flat(settings, "")


def nearest_preset(run: RunConfig) -> PresetDifference:
    """The preset of the run's own name, else the one with the fewest differences."""
    candidates = [run.name] if run.name in PRESETS else list(PRESETS)
    found = [PresetDifference(preset=name, changes=differences(PRESETS[name](), run)) for name in candidates]
    return min(found, key=lambda difference: len(difference.changes))


def differences(before: RunConfig, after: RunConfig) -> tuple[SettingChange, ...]:
    """Settings of `after` that `before` has not, or has otherwise."""
    old, new = flat_settings(before), flat_settings(after)
    return tuple(
        SettingChange(key=key, value=short(new.get(key)), before=short(old[key]) if key in old else "")
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def varying(runs: Sequence[RunConfig]) -> list[tuple[str, list[str]]]:
    """Settings that the runs do not share, with each run's value; empty text where a run has no such setting."""
    flat = [{**flat_settings(run), "seed": run.seed} for run in runs]
    keys = sorted({key for settings in flat for key in settings})
    rows = [(key, [short(settings[key]) if key in settings else "" for settings in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def short(value: Any) -> str:
    """A value as `--set` takes it, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _flat(value: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) and item else {f"{prefix}{key}": item}
    return flat
