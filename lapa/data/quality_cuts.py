"""Scene cuts, found by PySceneDetect's adaptive detector while frames pass to the encoder.

Its own front end opens files and wants them whole; the detector alone takes frame after frame, which suits a stream.
It compares a frame's change with that of the frames around it, so that fast motion is no cut: it decides two frames
late. So frames wait here until it has decided, and the first and last one are shown to it a few times more, since it
never decides on those that have no neighbours.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, FrameTimecode

from lapa.config.quality import QualityConfig
from lapa.data.quality import Look

LATE = 2
"""Frames that the detector looks at before and after the one it decides on."""


class Placed(NamedTuple):
    """A frame and the scene that it belongs to, counted from 0."""

    scene: int
    look: Look


def placed_in_scenes(looks: Iterable[Look], fps: float, config: QualityConfig) -> Iterator[Placed]:
    """Every frame, in order, at most `LATE` frames after it came."""
    detector = _Detector(fps, config)
    waiting: deque[Look] = deque()
    scene = decided = 0
    last: Look | None = None
    for look in looks:
        if last is None:
            for _ in range(LATE):
                detector.begins_scene(look)
        waiting.append(look)
        last = look
        begins = detector.begins_scene(look)
        if len(waiting) > LATE:
            scene += begins and decided > 0
            decided += 1
            yield Placed(scene, waiting.popleft())
    while waiting and last is not None:
        scene += detector.begins_scene(last) and decided > 0
        decided += 1
        yield Placed(scene, waiting.popleft())


class _Detector:
    def __init__(self, fps: float, config: QualityConfig) -> None:
        self._detector = AdaptiveDetector(
            adaptive_threshold=config.cut_contrast,
            min_content_val=config.cut_change,
            min_scene_len=1,
            window_width=LATE,
        )
        self._start = FrameTimecode(0, fps)
        self._seen = 0

    def begins_scene(self, look: Look) -> bool:
        """Shows one more frame; whether a scene begins with the one shown `LATE` frames before it."""
        picture = np.ascontiguousarray(cv2.cvtColor(look.thumb, cv2.COLOR_RGB2BGR))
        cuts = self._detector.process_frame(FrameTimecode(self._seen, self._start), picture)
        self._seen += 1
        return bool(cuts)
