"""How a source's frames become a dataset's frames: square, of one size, at one rate."""

from collections.abc import Iterable, Iterator
from typing import Literal, assert_never

import cv2
import numpy as np

from lapa.types.episodes import Frame


def resize(frame: Frame, size: int, mode: Literal["crop", "squash"]) -> Frame:
    """``h w 3`` to ``size size 3``."""
    match mode:
        case "crop":
            frame = _center_square(frame)
        case "squash":
            pass
        case _:
            assert_never(mode)
    if frame.shape[:2] == (size, size):
        return frame
    shrinks = min(frame.shape[:2]) >= size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=interpolation)


def drop_to_rate(frames: Iterable[Frame], *, source_fps: float, fps: float) -> Iterator[Frame]:
    """Keep the first frame of every interval of the slower rate; all of them where it is not slower."""
    share = min(1.0, fps / source_fps)
    kept = 0
    for number, frame in enumerate(frames):
        # 1e-6: a third of 30 fps must not lose a frame to rounding
        if number * share + 1e-6 >= kept:
            kept += 1
            yield frame


def _center_square(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]
