"""Episodes for people to look at."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from lapa.config.data import VideoEncoding
from lapa.data.video import encode_mp4
from lapa.envs.tabletop.env import FPS

_SUCCESS, _FAILURE = (60, 190, 90), (210, 60, 60)
_BORDER = 2


def contact_sheet(
    videos: Sequence[np.ndarray],
    success: Sequence[bool] | np.ndarray | None = None,
    *,
    columns: int = 8,
    scale: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """One row per episode, `columns` frames from first to last; with `success`, framed green or red."""
    rows = []
    for number, video in enumerate(videos):
        chosen = np.linspace(0, len(video) - 1, columns).round().astype(int)
        color = (0, 0, 0) if success is None else (_SUCCESS if success[number] else _FAILURE)
        rows.append(np.concatenate([_framed(_enlarged(video[t], scale), color) for t in chosen], axis=1))
    return np.concatenate(rows)


def episode_video(video: Sequence[np.ndarray] | np.ndarray, *, scale: int = 5) -> bytes:
    """An episode as an mp4, enlarged for a screen."""
    return encode_mp4((_enlarged(frame, scale) for frame in video), FPS, VideoEncoding(crf=16))


def _enlarged(frame: np.ndarray, scale: int) -> np.ndarray:
    return np.repeat(np.repeat(frame, scale, axis=0), scale, axis=1)


def _framed(frame: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return cv2.copyMakeBorder(frame, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT, value=color)
