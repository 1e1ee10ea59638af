"""Frames of an episode as models take them, a batch of pairs at a time. t timesteps, b batch."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import UInt8

from lapa.types.batches import Images

BATCH = 128


def to_images(frames: UInt8[np.ndarray, "b h w 3"]) -> Images:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def pair_batches(frames: UInt8[np.ndarray, "t h w 3"], window: int) -> Iterator[tuple[Images, Images]]:
    """All pairs (t, t + window) in order, at most `BATCH` at once."""
    images = to_images(frames)
    for start in range(0, len(images) - window, BATCH):
        current = images[start : min(start + BATCH, len(images) - window)]
        yield current, images[start + window :][: len(current)]
