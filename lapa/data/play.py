"""An episode as a video for people: its frames, and below them the instruction, the actions and the labels.

Codes are told apart by the number in each square; the colour only repeats it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont

from lapa.config.data import VideoEncoding
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays, episode_frames
from lapa.data.labels import Labels
from lapa.data.video import encode_mp4
from lapa.data.windows import window_of
from lapa.errors import ConfigError, LabelMismatch

SIDE = 480
"""Pixels of the enlarged frame, about."""
_LINE, _MARGIN = 22, 10
_BARS = 16
"""Dimensions of an action that are drawn; the others are counted."""
_PAPER, _INK, _SOFT, _RULE = (18, 24, 31), (232, 237, 242), (165, 178, 191), (53, 65, 77)
_RECORDED, _LABELLED = (124, 196, 255), (255, 154, 87)
_CODES = ((124, 196, 255), (255, 154, 87), (63, 214, 166), (231, 154, 214), (255, 210, 77), (181, 217, 255))


@dataclass(frozen=True, kw_only=True)
class _Tracks:
    """What is drawn below the frames of one episode. t timesteps, a dimensions, n codes."""

    instruction: str
    names: Sequence[str]
    actions: Float32[np.ndarray, "t a"] | None
    low: Float32[np.ndarray, " a"] | None
    """Where a bar begins and ends: the dataset's 1st and 99th percentile."""
    high: Float32[np.ndarray, " a"] | None
    codes: Int64[np.ndarray, "t n"] | None
    labelled: Float32[np.ndarray, "t a"] | None
    """Actions that an inverse-dynamics model put on the frames."""
    window: int
    """Of the labels, in timesteps."""
    fps: float


def find_row(dataset: Dataset, episode: str) -> int:
    """By id, by the one id that begins so, or by number. ConfigError names episodes that come near."""
    ids: list[str] = dataset.index["episode"].to_pylist()
    if episode in ids:
        return ids.index(episode)
    if episode.isdigit() and int(episode) < len(ids):
        return int(episode)
    begins = [row for row, name in enumerate(ids) if name.startswith(episode)]
    if len(begins) == 1:
        return begins[0]
    near = ", ".join(ids[row] for row in begins[:5]) or f"the first are {', '.join(ids[:3])}"
    many = f"{len(begins)} episodes begin with '{episode}'" if begins else f"no episode is called '{episode}'"
    raise ConfigError(f"{many} in {dataset.url}: {near}. Give an id, or a row from 0 to {len(ids) - 1}")


def play_episode(dataset: Dataset, row: int, *, labels: Labels | None = None) -> bytes:
    """An mp4 at the episode's own rate. LabelMismatch for labels of another dataset."""
    tracks = _tracks(dataset, row, labels)
    frames = episode_frames(dataset, row)
    pictures = (_drawn(frame, t, len(frames), tracks) for t, frame in enumerate(frames))
    return encode_mp4(pictures, tracks.fps, VideoEncoding(crf=20))


def _tracks(dataset: Dataset, row: int, labels: Labels | None) -> _Tracks:
    info, fps = dataset.info, float(dataset.index["fps"][row].as_py())
    codes = labelled = None
    window = 0
    if labels is not None:
        if labels.stamp.dataset_revision != dataset.revision:
            raise LabelMismatch(
                f"labels at {labels.url} are of revision {labels.stamp.dataset_revision[:12]} of a dataset, "
                f"{dataset.url} is {dataset.revision[:12]}. Run the label stage for this dataset."
            )
        window = window_of(labels.stamp.window_seconds, fps)
        is_latent = labels.stamp.labeller_kind == "latent-action"
        codes = labels.codes_of(row) if is_latent else None
        labelled = None if is_latent else labels.actions_of(row)
    arrays = episode_arrays(dataset, row)
    statistics = info.actions
    names = info.action_names or tuple(str(place) for place in range(info.action_dims))
    return _Tracks(
        instruction=dataset.index["instruction"][row].as_py() or "(no instruction)",
        names=labels.stamp.action_names if labelled is not None and labels is not None else names,
        actions=arrays.get("actions"),
        low=np.array(statistics.q01, np.float32) if statistics else None,
        high=np.array(statistics.q99, np.float32) if statistics else None,
        codes=codes,
        labelled=labelled,
        window=window,
        fps=fps,
    )


def _drawn(frame: UInt8[np.ndarray, "h w 3"], t: int, count: int, tracks: _Tracks) -> UInt8[np.ndarray, "y x 3"]:
    scale = max(1, round(SIDE / frame.shape[0]))
    method = cv2.INTER_NEAREST if scale > 2 else cv2.INTER_LINEAR
    enlarged = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=method)
    width = enlarged.shape[1] + enlarged.shape[1] % 2
    panel = _Panel(width, _height(tracks, width))
    for line in panel.wrapped(tracks.instruction, 2):
        panel.text(line)
    panel.text(f"timestep {t} of {count}, second {t / tracks.fps:.2f}", ink=_SOFT)
    if tracks.codes is not None:
        _draw_codes(panel, t, tracks)
    _draw_actions(panel, t, tracks)
    if enlarged.shape[1] < width:
        enlarged = cv2.copyMakeBorder(enlarged, 0, 0, 0, 1, cv2.BORDER_REPLICATE)
    picture: np.ndarray = np.concatenate([enlarged, panel.pixels()])
    return picture[: len(picture) - len(picture) % 2]


def _height(tracks: _Tracks, width: int) -> int:
    lines = len(_Panel(width, 1).wrapped(tracks.instruction, 2)) + 1
    shown = tracks.actions if tracks.actions is not None else tracks.labelled
    bars = 0 if shown is None else min(_BARS, shown.shape[1]) + (shown.shape[1] > _BARS)
    legend = tracks.labelled is not None
    return 2 * _MARGIN + _LINE * (lines + bars + legend) + (2 * _LINE if tracks.codes is not None else 0)


def _draw_codes(panel: "_Panel", t: int, tracks: _Tracks) -> None:
    assert tracks.codes is not None
    if t >= len(tracks.codes):
        panel.text(f"no latent action: the next {tracks.window} timesteps are not all there", ink=_SOFT)
        panel.skip(_LINE)
        return
    panel.text(f"latent action over the next {tracks.window} timesteps", ink=_SOFT)
    panel.squares([int(code) for code in tracks.codes[t]])


def _draw_actions(panel: "_Panel", t: int, tracks: _Tracks) -> None:
    shown = tracks.actions if tracks.actions is not None else tracks.labelled
    if shown is None:
        return
    if tracks.labelled is not None:
        panel.text("blue: recorded action, orange: what inverse dynamics saw", ink=_SOFT)
    low = tracks.low if tracks.low is not None else shown.min(axis=0)
    high = tracks.high if tracks.high is not None else shown.max(axis=0)
    dims = shown.shape[1]
    for place in range(min(_BARS, dims)):
        span = float(low[place]), float(high[place])
        name = tracks.names[place] if place < len(tracks.names) else str(place)
        values = [
            (float(values[t, place]), ink)
            for values, ink in ((tracks.actions, _RECORDED), (tracks.labelled, _LABELLED))
            if values is not None and t < len(values) and place < values.shape[1]
        ]
        panel.bars(name, values, span)
    if dims > _BARS:
        panel.text(f"and {dims - _BARS} more dimensions", ink=_SOFT)


class _Panel:
    """Lines of text, squares and bars, from top to bottom."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height + height % 2), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._y = _MARGIN
        self._width = width

    def pixels(self) -> UInt8[np.ndarray, "y x 3"]:
        return np.asarray(self.image)

    def skip(self, pixels: int) -> None:
        self._y += pixels

    def wrapped(self, text: str, lines: int) -> list[str]:
        """Words in at most so many lines; what does not fit ends in an ellipsis."""
        room, found = self._width - 2 * _MARGIN, [""]
        for word in text.split():
            longer = f"{found[-1]} {word}".strip()
            if self._draw.textlength(longer, font=_font(16)) <= room:
                found[-1] = longer
            else:
                found.append(word)
        if len(found) > lines:
            found[lines - 1] = f"{found[lines - 1]} …"
        return found[:lines]

    def text(self, words: str, *, ink: tuple[int, int, int] = _INK) -> None:
        self._draw.text((_MARGIN, self._y), words, fill=ink, font=_font(16 if ink == _INK else 13))
        self._y += _LINE

    def squares(self, codes: Sequence[int]) -> None:
        for place, code in enumerate(codes):
            left = _MARGIN + place * 44
            self._draw.rectangle((left, self._y, left + 36, self._y + 18), fill=_CODES[code % len(_CODES)])
            self._draw.text((left + 18, self._y + 9), str(code), fill=_PAPER, font=_font(14), anchor="mm")
        self._y += _LINE

    def bars(self, name: str, values: Sequence[tuple[float, tuple[int, int, int]]], span: tuple[float, float]) -> None:
        """A track from the lower to the upper end, a mark at zero, and a bar from zero to each value."""
        left, right = _MARGIN + 130, self._width - _MARGIN - 70
        middle = self._y + _LINE // 2 - 2

        def x(value: float) -> float:
            share = (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5
            return left + min(max(share, 0.0), 1.0) * (right - left)

        self._draw.text((_MARGIN, self._y + 1), name[:18], fill=_SOFT, font=_font(13))
        self._draw.line((left, middle, right, middle), fill=_RULE)
        zero = x(min(max(0.0, span[0]), span[1]))
        for place, (value, ink) in enumerate(values):
            top = middle - 2 if len(values) == 1 else middle - 5 + place * 6
            ends = sorted((zero, x(value)))
            self._draw.rectangle((ends[0], top, max(ends[1], ends[0] + 1), top + 4), fill=ink)
        self._draw.line((zero, middle - 7, zero, middle + 7), fill=_SOFT)
        if values:
            self._draw.text((right + 8, self._y + 1), f"{values[0][0]:.3g}", fill=_INK, font=_font(13))
        self._y += _LINE


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu, which matplotlib brings: most scripts but those of East Asia."""
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
