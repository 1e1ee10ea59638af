"""Actions at a lower rate: one for each frame that is kept, which does what the ones it stands for did together.

t timesteps, m kept ones, a dimensions.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from lapa.config.conventions import DimensionConvention
from lapa.errors import ConfigError

_WHOLE = 2e-3
"""Share by which the ratio of two rates may miss a whole number: 29.97 and 10 are three to one."""


def stride_of(source_fps: float, fps: float, *, source: str) -> int:
    """Timesteps that become one. ConfigError, with rates that do, where they are no whole number."""
    stride = max(round(source_fps / fps), 1)
    if abs(source_fps / fps - stride) > _WHOLE * stride:
        nearest = " or ".join(f"fps={source_fps / whole:.4g}" for whole in (stride, stride + 1))
        raise ConfigError(
            f"{source} has actions or states at {source_fps:g} a second, and fps={fps:g} is no whole part of that: "
            f"each must stand for as many as the next. Set {nearest}"
        )
    return stride


def check_thinning(dimensions: Sequence[DimensionConvention], dims: int, *, source: str) -> None:
    """ConfigError where it is not known what several actions of ``dims`` numbers do together."""
    if len(dimensions) != dims:
        why = f"conventions.actions tells of {len(dimensions)} dimensions, and they have {dims}"
        raise ConfigError(_refusal(source, why))
    for dimension in dimensions:
        if not dimension.is_gripper and dimension.mode == "unknown":
            why = f"whether {dimension.name} is absolute, a delta or a velocity is not known"
            raise ConfigError(_refusal(source, why))
        if dimension.mode == "delta" and dimension.unit in ("normalized", "share", "quaternion"):
            why = f"{dimension.name} is a delta in {dimension.unit}, and two of those cannot be added"
            raise ConfigError(_refusal(source, why))


def _refusal(source: str, why: str) -> str:
    return (
        f"{source} has actions, of which fps would make one of several, but {why}. Declare them in the ingest's "
        "conventions.actions, or leave fps unset"
    )


def thinned_actions(
    actions: Float32[np.ndarray, "t a"], stride: int, dimensions: Sequence[DimensionConvention]
) -> Float32[np.ndarray, "m a"]:
    """Deltas are added up, velocities averaged; of targets, and of a gripper, the last one counts. An episode's last
    action may stand for fewer timesteps."""
    starts = np.arange(0, len(actions), stride)
    stops = np.minimum(starts + stride, len(actions))
    values = actions.astype(np.float64)
    sums = np.add.reduceat(values, starts, axis=0)
    thinned = values[stops - 1]
    for place, dimension in enumerate(dimensions):
        if dimension.mode == "delta" and not dimension.is_gripper:
            thinned[:, place] = sums[:, place]
        elif dimension.mode == "velocity" and not dimension.is_gripper:
            thinned[:, place] = sums[:, place] / (stops - starts)
    return thinned.astype(np.float32)
