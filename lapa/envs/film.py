"""Episodes for people to look at, with or without colour vision."""

import cv2
import numpy as np
from jaxtyping import UInt8

from lapa.config.data import VideoEncoding
from lapa.data.video import encode_mp4
from lapa.envs.results import EpisodeResults

_FRAME_SIDE, _VIDEO_SIDE = 96, 240
"""Frames are enlarged, by whole factors, to about this many pixels."""
_BORDER, _DASH = 3, 12
_CAPTION = 22
_PAPER, _INK = (250, 250, 248), (20, 20, 24)
_SUCCESS, _FAILURE = (0, 110, 160), (200, 90, 0)
"""Blue and orange differ for every kind of eye; solid and dashed, tick and cross say the same."""


def contact_sheet(results: EpisodeResults, *, columns: int = 8) -> UInt8[np.ndarray, "h w 3"]:
    """One row per filmed episode: how it ended, what was asked, and `columns` frames from first to last."""
    return np.concatenate([_row(results, index, columns) for index in sorted(results.videos)])


def episode_video(video: UInt8[np.ndarray, "t h w 3"], fps: float) -> bytes:
    """An episode as an mp4, enlarged for a screen."""
    return encode_mp4((_enlarged(frame, _VIDEO_SIDE) for frame in video), fps, VideoEncoding(crf=20))


def video_name(results: EpisodeResults, index: int) -> str:
    """`0012-unseen-object-success.mp4`; the kind of task stands for a split that is not known."""
    outcome = "success" if results.success[index] else "failure"
    return f"{index:04d}-{results.splits[index] or results.kinds[index]}-{outcome}.mp4"


def _row(results: EpisodeResults, index: int, columns: int) -> np.ndarray:
    video, success = results.videos[index], bool(results.success[index])
    chosen = np.linspace(0, len(video) - 1, columns).round().astype(int)
    frames = np.concatenate([_framed(_enlarged(video[t], _FRAME_SIDE), success) for t in chosen], axis=1)
    caption = np.full((_CAPTION, frames.shape[1], 3), _PAPER, dtype=np.uint8)
    _mark(caption, success)
    split = f", {results.splits[index]}" if results.splits[index] else ""
    outcome = "success" if success else "failure"
    text = f"{outcome} after {results.steps[index]}: {results.instructions[index]} (no. {index}{split})"
    cv2.putText(caption, text, (_CAPTION + 4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return np.concatenate([caption, frames])


def _mark(caption: np.ndarray, success: bool) -> None:
    """A tick or a cross at the caption's left end."""
    strokes = [[(5, 11), (9, 16), (17, 5)]] if success else [[(5, 5), (16, 16)], [(5, 16), (16, 5)]]
    lines = [np.array(stroke, dtype=np.int32) for stroke in strokes]
    cv2.polylines(caption, lines, False, _SUCCESS if success else _FAILURE, 2, cv2.LINE_AA)


def _framed(frame: np.ndarray, success: bool) -> np.ndarray:
    """Solid for success, dashed for failure."""
    color = _SUCCESS if success else _FAILURE
    framed: np.ndarray = cv2.copyMakeBorder(frame, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT, value=color)
    if not success:
        side = np.arange(framed.shape[0]) // _DASH % 2 == 0
        across = np.arange(framed.shape[1]) // _DASH % 2 == 0
        framed[side, :_BORDER] = framed[side, -_BORDER:] = _PAPER
        framed[:_BORDER, across] = framed[-_BORDER:, across] = _PAPER
    return framed


def _enlarged(frame: np.ndarray, side: int) -> np.ndarray:
    """Every pixel as a square, so that the picture is about `side` pixels high."""
    scale = max(1, round(side / frame.shape[0]))
    return np.repeat(np.repeat(frame, scale, axis=0), scale, axis=1)
