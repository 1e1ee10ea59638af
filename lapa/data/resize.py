"""How a source's frames become a dataset's frames: square, of one size, at one rate."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeVar, assert_never

import cv2
import numpy as np

from lapa.types.episodes import Frame

Item = TypeVar("Item")
Mode = Literal["crop", "squash"]


class Part(NamedTuple):
    """What of a picture becomes a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def shrinks_to(self, size: int) -> bool:
        """Whether both sides become shorter, or stay; pixels are then averaged over what they cover."""
        return min(self.height, self.width) >= size


def kept_part(height: int, width: int, mode: Mode) -> Part:
    match mode:
        case "crop":
            side = min(height, width)
            return Part((height - side) // 2, (width - side) // 2, side, side)
        case "squash":
            return Part(0, 0, height, width)
        case _:
            assert_never(mode)


def resize(frame: Frame, size: int, mode: Mode) -> Frame:
    """``h w 3`` to ``size size 3``."""
    height, width = frame.shape[:2]
    part = kept_part(height, width, mode)
    frame = frame[part.top : part.top + part.height, part.left : part.left + part.width]
    if frame.shape[:2] == (size, size):
        return frame
    interpolation = cv2.INTER_AREA if part.shrinks_to(size) else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=interpolation)


def drop_to_rate(frames: Iterable[Item], *, source_fps: float, fps: float) -> Iterator[Item]:
    """Keep the first frame of every interval of the slower rate; all of them where it is not slower."""
    share = min(1.0, fps / source_fps)
    kept = 0
    for number, frame in enumerate(frames):
        # 1e-6: a third of 30 fps must not lose a frame to rounding
        if number * share + 1e-6 >= kept:
            kept += 1
            yield frame
