"""Statistics of frames and actions, gathered in parts and merged in any order to the same numbers.

t timesteps, d dimensions.
"""

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from pydantic import BaseModel

from lapa.data.dataset import ActionStatistics
from lapa.data.pictures import Picture
from lapa.data.sketch import Sketch
from lapa.types.episodes import Frame

FRAME_STRIDE = 8
"""Every eighth frame is measured, the first of each episode among them."""

BINS = 256
"""Of the paper's action head: as many bins of equal frequency, fewer where quantiles repeat."""


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
    """Counts and measures pictures on their way through."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.sums = FrameSums()

    def measure(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        for picture in pictures:
            if self.num_frames % FRAME_STRIDE == 0:
                self.sums += _frame_sums(picture.rgb)
            self.num_frames += 1
            yield picture


def action_statistics(parts: Iterable[np.ndarray]) -> ActionStatistics:
    """Per-dimension statistics over float32 ``t d`` parts, each looked at once; see `sketch.py` for what is exact."""
    sketch = Sketch.of(parts)
    mean, std = sketch.mean_and_std()
    low, high = sketch.extremes()
    edges = sketch.quantiles(np.linspace(0, 1, BINS + 1).tolist())
    first, last = sketch.quantiles([0.01, 0.99])
    return ActionStatistics(
        mean=_floats(mean),
        std=_floats(std),
        min=_floats(low),
        max=_floats(high),
        q01=_floats(first),
        q99=_floats(last),
        bins=tuple(_floats(np.unique(column.astype(np.float32))) for column in edges.T),
    )


def _frame_sums(frame: Frame) -> FrameSums:
    red, green, blue, _ = (round(total) for total in cv2.sumElems(frame))
    red2, green2, blue2 = (round(cv2.norm(channel, cv2.NORM_L2SQR)) for channel in cv2.split(frame))
    return FrameSums(pixels=frame.shape[0] * frame.shape[1], sums=(red, green, blue), squares=(red2, green2, blue2))


def _add(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2])


def _unit(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in values)
    return (red, green, blue)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
