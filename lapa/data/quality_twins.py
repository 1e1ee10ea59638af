"""Near-duplicates in a dataset: clips of nearly the same pictures and length, however each was encoded.

Perceptual hashes name suspects without comparing every pair; small thumbnails then decide, since episodes that one
resting camera filmed have nearly the same hash however differently the robot moves. n clips, y x c pixels and channels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from lapa.config.quality import QualityConfig

HASH_BYTES = 32
_BAND_BYTES = 2
"""Hashes that differ in at most 15 of 256 bits agree in one of their 16 bands."""
_NEIGHBOURS = 8
"""Of a clip, among those with the same band in the order of their hashes: so a band that many share costs little."""
_SUSPECTS = 4
"""Of a clip, the nearest ones, whose thumbnails are compared."""
_LENGTH_SHARE, _LENGTH_SECONDS = 0.05, 0.25
"""Duplicates last equally long, but for this share of the longer one or this many seconds."""


class Twin(NamedTuple):
    """A clip that repeats an earlier one; numbers of clips."""

    clip: int
    earlier: int


def find_twins(
    hashes: Sequence[bytes],
    seconds: Sequence[float],
    thumbs_of: Callable[[int], UInt8[np.ndarray, "4 y x c"]],
    config: QualityConfig,
) -> list[Twin]:
    """Each clip that repeats an earlier one, once, with the earliest that it repeats; in order."""
    if len(hashes) < 2:
        return []
    bits = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), HASH_BYTES)
    earliest: dict[int, int] = {}
    for first, second in _suspects(bits, np.asarray(seconds), config):
        change = np.abs(thumbs_of(first).astype(np.int16) - thumbs_of(second)).max()
        if change <= config.duplicate_change:
            earliest.setdefault(second, earliest.get(first, first))
    return [Twin(clip, earlier) for clip, earlier in sorted(earliest.items())]


def _suspects(
    bits: UInt8[np.ndarray, "n 32"], seconds: Float[np.ndarray, " n"], config: QualityConfig
) -> list[tuple[int, int]]:
    """Pairs to compare, the lower number first; by the higher number, then by how near they are."""
    columns = np.ascontiguousarray(bits).view(">u8").astype(np.uint64)
    bands = np.ascontiguousarray(bits).view(f">u{_BAND_BYTES}")
    found = np.empty(0, np.int64)  # a pair as one number, and once: most bands name the same ones
    for band in range(bands.shape[1]):
        order = np.lexsort((np.arange(len(bits)), *columns.T[::-1], bands[:, band]))
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            left, right = order[:-step], order[step:]
            same = bands[left, band] == bands[right, band]
            left, right = left[same], right[same]
            found = np.union1d(found, np.minimum(left, right) * len(bits) + np.maximum(left, right))
    pairs = np.stack(np.divmod(found, len(bits)), axis=1)
    distances = np.bitwise_count(bits[pairs[:, 0]] ^ bits[pairs[:, 1]]).sum(axis=1)
    apart = np.abs(seconds[pairs[:, 0]] - seconds[pairs[:, 1]])
    longest = np.maximum(seconds[pairs[:, 0]], seconds[pairs[:, 1]])
    near = (distances <= config.duplicate_bits) & (apart <= np.maximum(_LENGTH_SHARE * longest, _LENGTH_SECONDS))
    pairs, distances = pairs[near], distances[near]
    pairs = pairs[np.lexsort((pairs[:, 0], distances, pairs[:, 1]))]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 1], pairs[:, 1])
    return [(int(first), int(second)) for first, second in pairs[rank < _SUSPECTS]]
