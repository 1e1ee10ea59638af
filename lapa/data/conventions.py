"""What a dataset's numbers mean: gathered from the user and the source, and held against the numbers themselves."""

import math
from typing import Any

from lapa.config.conventions import Conventions, DimensionConvention
from lapa.config.data import IngestConfig
from lapa.data.dataset import DatasetInfo
from lapa.data.readers.base import KnowsConventions, SourceReader
from lapa.errors import ConfigError

_LIMITS: dict[tuple[str, str], tuple[float, float, str]] = {
    ("normalized", ""): (-1, 1, ""),
    ("quaternion", ""): (-1, 1, ""),
    ("share", ""): (0, 1, ""),
    ("rad", ""): (-4 * math.pi, 4 * math.pi, " Are these degrees?"),
    ("m", "delta"): (-1, 1, " Are these millimetres?"),
    ("m", ""): (-10, 10, " Are these millimetres?"),
}
"""By unit, and mode where that narrows it: between which numbers 98 of 100 must lie, and what may be wrong."""
_SLACK = 0.02
"""Of a range: sensors and rounding overshoot."""


def declared_source(config: IngestConfig) -> IngestConfig:
    """With the licence and the embodiment that `conventions` declares, where the source's settings say none."""
    declared = config.conventions
    if declared is None:
        return config
    update: dict[str, Any] = {}
    for name in ("licence", "embodiment"):
        if getattr(declared, name) is not None and getattr(config.source, name, None) in (None, "unknown"):
            update[name] = getattr(declared, name)
    update = {name: value for name, value in update.items() if name in type(config.source).model_fields}
    return config.model_copy(update={"source": config.source.model_copy(update=update)})


def found_conventions(config: IngestConfig, reader: SourceReader) -> Conventions:
    """What is declared, and where that says nothing, what the source knows of itself. ConfigError for a camera that
    the frames do not come from."""
    known = reader.conventions() if isinstance(reader, KnowsConventions) else Conventions()
    declared = config.conventions or Conventions()
    unknown = sorted(set(declared.cameras) - set(known.cameras))
    if known.cameras and unknown:
        raise ConfigError(
            f"conventions.cameras names {', '.join(unknown)}, and the frames come from {', '.join(known.cameras)}: "
            "correct the name, or choose that camera in the source"
        )
    found = declared.over(known)
    if config.fps is None or found.control_hz is None:
        return found
    return found.model_copy(update={"control_hz": min(found.control_hz, config.fps)})


def checked_conventions(found: Conventions, info: DatasetInfo) -> Conventions:
    """In agreement with what was read, and with what was read where nobody said it.

    ConfigError names the first thing that cannot be, with what to do.
    """
    if info.action_dims == 0:
        return _described(found, info, ())
    _check_rate(found, info)
    names = found.action_names or info.action_names
    if len(names) != info.action_dims and (found.actions or names):
        raise ConfigError(
            f"conventions.actions has {len(names)} dimensions ({', '.join(names)}) and an action of the source has "
            f"{info.action_dims}: give every dimension, in the order of the numbers"
        )
    if found.actions and info.action_names != names and sorted(info.action_names) == sorted(names):
        raise ConfigError(
            f"conventions.actions names the source's dimensions in another order: {', '.join(names)}, and the source "
            f"has {', '.join(info.action_names)}. Give them in the source's order"
        )
    for place, dimension in enumerate(found.actions):
        _check_range(dimension, place, info)
    return _described(found, info, names)


def _described(found: Conventions, info: DatasetInfo, names: tuple[str, ...]) -> Conventions:
    """With what was read, where nobody said it."""
    is_named = len(set(names)) == len(names)
    bodies, licences = ([*counts] for counts in (info.embodiments, info.licences))
    return found.model_copy(
        update={
            "actions": found.actions or (tuple(DimensionConvention(name=name) for name in names) if is_named else ()),
            "control_hz": found.control_hz or (info.fps[0] if len(info.fps) == 1 and info.action_dims else None),
            "embodiment": bodies[0] if len(bodies) == 1 and bodies[0] != "unknown" else None,
            "licence": licences[0] if len(licences) == 1 and licences[0] != "unknown" else None,
        }
    )


def _check_rate(found: Conventions, info: DatasetInfo) -> None:
    if found.control_hz is not None and any(abs(fps - found.control_hz) > 0.01 * fps for fps in info.fps):
        rates = ", ".join(f"{fps:g}" for fps in info.fps)
        raise ConfigError(
            f"conventions.control_hz is {found.control_hz:g}, and the source has {rates} frames a second, each with an "
            "action: correct control_hz, or the source's fps"
        )


def _check_range(dimension: DimensionConvention, place: int, info: DatasetInfo) -> None:
    """1st and 99th percentile: a single wild number is the recording's fault, not the declaration's."""
    assert info.actions is not None, "a dataset with action dimensions has their statistics"
    low, high = info.actions.q01[place], info.actions.q99[place]
    limits = _LIMITS.get((dimension.unit, dimension.mode)) or _LIMITS.get((dimension.unit, ""))
    if dimension.open is not None and dimension.closed is not None:
        smallest, largest = sorted((dimension.open, dimension.closed))
        limits = (smallest, largest, f" It opens at {dimension.open:g} and closes at {dimension.closed:g}.")
    if limits is None:
        return
    smallest, largest, hint = limits
    slack = _SLACK * (largest - smallest)
    if low < smallest - slack or high > largest + slack:
        unit = "" if dimension.unit == "unknown" else f" is in {dimension.unit} and"
        raise ConfigError(
            f"by its conventions {dimension.name}{unit} lies between {smallest:.4g} and {largest:.4g}, but its "
            f"recorded numbers go from {low:.4g} to {high:.4g} (1st to 99th percentile)."
            f"{hint} Say in conventions.actions what it is, or correct the recordings"
        )
