"""Statistics of frames and actions, gathered in parts and merged in any order to the same numbers.

t timesteps, d dimensions.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from pydantic import BaseModel

from lapa.data.dataset import ActionStatistics
from lapa.types.episodes import Frame

FRAME_STRIDE = 8
"""Every eighth frame is measured, the first of each episode among them."""

QUANTILE_ROWS = 1_000_000
"""Quantiles are exact up to this many timesteps, and from an even sample of about as many beyond."""


class FrameSums(BaseModel):
    """Sums over the pixels of measured frames, per RGB channel, as exact integers."""

    pixels: int = 0
    sums: tuple[int, int, int] = (0, 0, 0)
    squares: tuple[int, int, int] = (0, 0, 0)

    def __add__(self, other: "FrameSums") -> "FrameSums":
        return FrameSums(
            pixels=self.pixels + other.pixels,
            sums=_add(self.sums, other.sums),
            squares=_add(self.squares, other.squares),
        )

    def mean_and_std(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """With pixels in [0, 1]."""
        count = max(self.pixels, 1)
        means = [total / count for total in self.sums]
        spreads = [math.sqrt(max(s / count - m * m, 0.0)) for s, m in zip(self.squares, means, strict=True)]
        return _unit(means), _unit(spreads)


class FrameMeter:
    """Counts and measures frames on their way through."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.sums = FrameSums()

    def measure(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if self.num_frames % FRAME_STRIDE == 0:
                self.sums += _frame_sums(frame)
            self.num_frames += 1
            yield frame


def action_statistics(parts: Sequence[np.ndarray]) -> ActionStatistics:
    """Per-dimension statistics over float32 ``t d`` parts, in float64."""
    count = sum(len(part) for part in parts)
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / count
    variance = sum(np.square(part - mean).sum(axis=0) for part in parts) / count
    stride = max(1, math.ceil(count / QUANTILE_ROWS))
    low, high = np.quantile(np.concatenate([part[::stride] for part in parts]), [0.01, 0.99], axis=0)
    return ActionStatistics(
        mean=_floats(mean),
        std=_floats(np.sqrt(variance)),
        min=_floats(np.min([part.min(axis=0) for part in parts], axis=0)),
        max=_floats(np.max([part.max(axis=0) for part in parts], axis=0)),
        q01=_floats(low),
        q99=_floats(high),
    )


def _frame_sums(frame: Frame) -> FrameSums:
    values = np.arange(256, dtype=np.int64)
    counts = [np.bincount(frame[..., channel].ravel(), minlength=256) for channel in range(3)]
    red, green, blue = (int(count @ values) for count in counts)
    red2, green2, blue2 = (int(count @ values**2) for count in counts)
    return FrameSums(pixels=frame.shape[0] * frame.shape[1], sums=(red, green, blue), squares=(red2, green2, blue2))


def _add(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2])


def _unit(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in values)
    return (red, green, blue)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
