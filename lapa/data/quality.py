"""What is measured of every clip while it is encoded, and what that says of its use.

All measures are taken from thumbnails, so that they cost little beside decoding and encoding. y x pixels of one.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import imagehash
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lapa.config.quality import QualityConfig
from lapa.data.pictures import Picture

SIDE = 64
"""Of a thumbnail, in pixels."""
KEPT = 128
"""Thumbnails that are kept of a clip, however long it is."""
HASHED_AT = (0.1, 0.37, 0.63, 0.9)
"""Where in a clip its perceptual hash looks, as shares of its length."""
TWIN_SIDE = 16
"""Of the smaller thumbnails that two suspected duplicates are compared by."""
_CHANGED, _CHANGED_SHARE = 4.0, 0.25
"""A camera that moves changes at least this share of the picture, by at least so many grey levels; below that, what
moves is in front of it."""
_TRUSTED = 0.2
"""Least response of a phase correlation whose shift is believed."""

Thumb = UInt8[np.ndarray, "y x 3"]
Kind = Literal["static", "black", "shaky", "cuts", "duplicates"]


class Look(NamedTuple):
    """A frame on its way to the encoder, with what it looks like from far."""

    picture: Picture
    thumb: Thumb


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a clip."""

    kind: Kind
    action: Literal["tag", "drop", "split"]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Of one clip."""

    frames: int
    black_frames: int
    largest_change: float
    """Of any cell of a thumbnail, against the first frame; in levels of a colour, 0 to 255."""
    motion: float
    """Mean change from one frame to the next, in levels of a colour."""
    shake: float
    """Root mean square of the change of the picture's shift from frame to frame, as a share of its side."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is kept of a clip that has been measured."""

    measures: Measures
    thumbs: list[Thumb]
    """Of its beginning, middle and end."""
    hash: bytes
    """Perceptual: 32 bytes that change little when a clip is encoded anew or scaled."""
    twin_thumbs: UInt8[np.ndarray, "4 y x 3"]
    """What a suspected duplicate is compared by."""


class ClipMeter:
    """Measures one clip on its way; its memory does not grow with the clip."""

    def __init__(self) -> None:
        self._kept: list[Thumb] = []
        self._stride = 1
        self._frames = self._black = 0
        self._change = self._motion = 0.0
        self._first: Thumb | None = None
        self._last: tuple[Thumb, np.ndarray] | None = None
        """In colour, and in grey."""
        self._shift: np.ndarray | None = None
        self._jerks = 0.0
        self._window = cv2.createHanningWindow((SIDE, SIDE), cv2.CV_32F)

    def measure(self, looks: Iterable[Look], *, black_level: float) -> Iterator[Picture]:
        for look in looks:
            self._add(look.thumb, black_level)
            yield look.picture

    def seen(self) -> Seen:
        """Of a clip that has at least one frame."""
        hashed = self._thumbs_at(*HASHED_AT)
        bits = [imagehash.phash(Image.fromarray(thumb)).hash for thumb in hashed]
        return Seen(
            measures=self._measures(),
            thumbs=self._thumbs_at(0, 0.5, 1),
            hash=np.packbits(np.stack(bits)).tobytes(),
            twin_thumbs=np.stack([_smaller(thumb) for thumb in hashed]),
        )

    def _measures(self) -> Measures:
        pairs = max(1, self._frames - 1)
        return Measures(
            frames=self._frames,
            black_frames=self._black,
            largest_change=self._change,
            motion=self._motion / pairs,
            shake=float(np.sqrt(self._jerks / pairs)) / SIDE,
        )

    def _thumbs_at(self, *shares: float) -> list[Thumb]:
        """Thumbnails nearest to these shares of the clip's length."""
        return [self._kept[round(share * (len(self._kept) - 1))] for share in shares]

    def _add(self, thumb: Thumb, black_level: float) -> None:
        self._keep(thumb)
        grey = cv2.cvtColor(thumb, cv2.COLOR_RGB2GRAY).astype(np.float32)
        self._black += bool(grey.mean() < black_level)
        if self._first is None or self._last is None:
            self._first = thumb
        else:
            # In colour: what differs in hue alone moves, too.
            self._change = max(self._change, float(cv2.absdiff(thumb, self._first).max()))
            change = cv2.absdiff(thumb, self._last[0])
            self._motion += sum(cv2.sumElems(change)) / change.size
            red, green, blue = cv2.split(change)
            changed = np.count_nonzero(cv2.max(cv2.max(red, green), blue) > _CHANGED)
            self._follow(self._last[1], grey, changed / red.size)
        self._last = thumb, grey
        self._frames += 1

    def _follow(self, before: np.ndarray, now: np.ndarray, changed: float) -> None:
        """How the picture as a whole moved."""
        shift = np.zeros(2)
        if changed >= _CHANGED_SHARE:
            # Copies: OpenCV 5 writes the windowed pictures back into its arguments.
            found, response = cv2.phaseCorrelate(before.copy(), now.copy(), self._window)
            shift = np.array(found) if response > _TRUSTED else shift
        if self._shift is not None:
            self._jerks += float(np.square(shift - self._shift).sum())
        self._shift = shift

    def _keep(self, thumb: Thumb) -> None:
        """Every frame, then every second, every fourth…: always between half of `KEPT` and all of it."""
        if self._frames % self._stride:
            return
        if len(self._kept) == KEPT:
            self._kept = self._kept[::2]
            self._stride *= 2
            if self._frames % self._stride:
                return
        self._kept.append(thumb)


def look(pictures: Iterable[Picture]) -> Iterator[Look]:
    for picture in pictures:
        yield Look(picture, picture.thumb(SIDE))


def judge(measures: Measures, cuts: int, config: QualityConfig) -> list[Finding]:
    """What is wrong with a clip by itself; duplicates show only beside the others."""
    found: list[Finding] = []
    black = measures.black_frames / max(1, measures.frames)
    if config.black != "off" and black >= config.black_share:
        found.append(Finding(kind="black", action=config.black, reason=f"{black:.0%} of its frames are black"))
    elif config.static != "off" and measures.frames > 1 and measures.largest_change <= config.static_change:
        reason = f"nothing changes by more than {measures.largest_change:.0f} of 255 levels"
        found.append(Finding(kind="static", action=config.static, reason=reason))
    if config.shaky != "off" and measures.shake >= config.shake:
        reason = f"the camera jerks by {measures.shake:.1%} of the picture's side per frame"
        found.append(Finding(kind="shaky", action=config.shaky, reason=reason))
    if config.cuts != "off" and cuts:
        reason = f"{cuts} scene {'cut' if cuts == 1 else 'cuts'}"
        found.append(Finding(kind="cuts", action=config.cuts, reason=reason))
    return found


def strip(thumbs: list[Thumb]) -> bytes:
    """Thumbnails side by side, as a JPEG of a few kilobytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(thumbs, axis=1)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _smaller(thumb: Thumb) -> Thumb:
    return cv2.resize(thumb, (TWIN_SIDE, TWIN_SIDE), interpolation=cv2.INTER_AREA)
