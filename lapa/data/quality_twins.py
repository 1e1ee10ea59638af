"""Near-duplicates in a dataset: clips of nearly the same pictures and length, however each was encoded.

Perceptual hashes name suspects without comparing every pair; small thumbnails then decide, since episodes that one
resting camera filmed have nearly the same hash however differently the robot moves. Beside the hashes, memory is a few
tens of bytes of each clip. n clips, s suspects of each, y x c pixels and channels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8

from lapa.config.quality import QualityConfig

HASH_BYTES = 32
_BAND_BYTES = 2
"""Hashes that differ in at most 15 of 256 bits agree in one of their 16 bands."""
_NEIGHBOURS = 8
"""Of a clip, among those with the same band in the order of their hashes: so a band that many share costs little."""
_SUSPECTS = 4
"""Of a clip, the nearest ones, whose thumbnails are compared."""
_BLOCK = 8_192
"""Pairs that are looked at in one go."""
_NONE = np.iinfo(np.int64).max
"""No suspect: farther than all."""
_LENGTH_SHARE, _LENGTH_SECONDS = 0.05, 0.25
"""Duplicates last equally long, but for this share of the longer one or this many seconds."""


ThumbsOf = Callable[[int], UInt8[np.ndarray, "4 y x c"]]
"""Those of a clip, by its number."""


class Twin(NamedTuple):
    """A clip that repeats an earlier one; numbers of clips."""

    clip: int
    earlier: int


def find_twins(
    hashes: Sequence[bytes], seconds: Sequence[float], thumbs_of: ThumbsOf, config: QualityConfig
) -> list[Twin]:
    """Each clip that repeats an earlier one, once, with the earliest that it repeats; in order."""
    bits = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), HASH_BYTES)
    repeated = confirmed(suspected(bits, np.asarray(seconds, float), config), thumbs_of, config)
    return [Twin(int(clip), int(repeated[clip])) for clip in np.flatnonzero(repeated >= 0)]


def suspected(
    bits: UInt8[np.ndarray, "n 32"], seconds: Float[np.ndarray, " n"], config: QualityConfig
) -> Int64[np.ndarray, "n s"]:
    """Of each clip, the earlier ones that it may repeat, the nearest first; -1 behind the last."""
    nearest = np.full((len(bits), _SUSPECTS), _NONE)
    alike = np.argsort(bits.view(f"S{HASH_BYTES}").ravel(), kind="stable")
    bands = bits.view(f">u{_BAND_BYTES}")
    for band in range(bands.shape[1]):
        order = alike[np.argsort(bands[alike, band], kind="stable")]
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            for start in range(0, len(order) - step, _BLOCK):
                left, right = order[:-step][start : start + _BLOCK], order[step:][start : start + _BLOCK]
                same = bands[left, band] == bands[right, band]
                _keep_nearest(nearest, left[same], right[same], bits, seconds, config)
    nearest.sort(axis=1)
    is_none = nearest == _NONE
    nearest %= max(1, len(bits))
    nearest[is_none] = -1
    return nearest


def confirmed(
    suspects: Int64[np.ndarray, "n s"], thumbs_of: ThumbsOf, config: QualityConfig
) -> Int64[np.ndarray, " n"]:
    """Of each clip, the earliest one that it repeats; -1 of one that repeats none."""
    repeated = np.full(len(suspects), -1)
    for clip in np.flatnonzero(suspects[:, 0] >= 0).tolist():
        thumbs = thumbs_of(clip).astype(np.int16)
        for suspect in suspects[clip][suspects[clip] >= 0].tolist():
            if np.abs(thumbs - thumbs_of(suspect)).max() <= config.duplicate_change:
                repeated[clip] = suspect if repeated[suspect] < 0 else repeated[suspect]
                break
    return repeated


def _keep_nearest(
    nearest: Int64[np.ndarray, "n s"],
    left: Int64[np.ndarray, " p"],
    right: Int64[np.ndarray, " p"],
    bits: UInt8[np.ndarray, "n 32"],
    seconds: Float[np.ndarray, " n"],
    config: QualityConfig,
) -> None:
    """Of p pairs, in each of which no clip is twice on one side, keep those that are nearer than what is kept.

    A suspect is kept as one number, by which the nearer one is the smaller, and of two equally near the earlier.
    """
    distances = np.bitwise_count(bits[left] ^ bits[right]).sum(axis=1, dtype=np.int64)
    apart, longest = np.abs(seconds[left] - seconds[right]), np.maximum(seconds[left], seconds[right])
    near = (distances <= config.duplicate_bits) & (apart <= np.maximum(_LENGTH_SHARE * longest, _LENGTH_SECONDS))
    for one, other in ((left, right), (right, left)):
        later = near & (one > other)
        clips, found = one[later], distances[later] * len(bits) + other[later]
        farthest = nearest[clips].argmax(axis=1)
        is_new = (found < nearest[clips, farthest]) & ~(nearest[clips] == found[:, None]).any(axis=1)
        nearest[clips[is_new], farthest[is_new]] = found[is_new]
