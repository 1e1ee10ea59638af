"""Changes that no action makes, drawn anew for each sample at every step.

b batch, c h w images.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lapa.config.stages import FrameAugmentation
from lapa.models.randomness import sample_uniform
from lapa.types.batches import FramePair


@dataclass(frozen=True, kw_only=True)
class AugmentedPair:
    """A frame pair twice: as the encoder sees it, and as the decoder starts from and must reach it."""

    seen: FramePair
    told: FramePair


def augment(pair: FramePair, config: FrameAugmentation) -> AugmentedPair:
    """Shift both frames alike, in all views; change the brightness of each frame the encoder sees.

    The decoder starts from, and must reach, frames of unchanged brightness: it has no use for codes that hold what the
    brightness did, and the encoder cannot tell the light's own changes from the drawn ones.
    """
    told = _shifted(pair, config.shift) if config.shift else pair
    if not config.brightness:
        return AugmentedPair(seen=told, told=told)
    seen = FramePair(
        current=_brightened(told.current, config.brightness), future=_brightened(told.future, config.brightness)
    )
    return AugmentedPair(seen=seen, told=told)


def _shifted(pair: FramePair, share: float) -> FramePair:
    """Whole pixels; what enters the frame repeats its edge."""
    size, height, width = len(pair.current), *pair.current.shape[-2:]
    device = pair.current.device
    shares = (2 * sample_uniform((2, size), device=device, axis=1) - 1) * share
    rows = _moved(height, shares[0])
    columns = _moved(width, shares[1])

    def take(images: Tensor) -> Tensor:
        channels_last = images.permute(0, 2, 3, 1)
        batch = torch.arange(size, device=device)[:, None, None]
        return channels_last[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    return FramePair(current=take(pair.current), future=take(pair.future))


def _moved(side: int, shares: Tensor) -> Int64[Tensor, "b side"]:
    """Where each pixel of one axis comes from."""
    offsets = (shares * side).round().long()
    places: Tensor = torch.arange(side, device=shares.device) + offsets[:, None]
    return places.clamp(0, side - 1)


def _brightened(images: UInt8[Tensor, "b c h w"], share: float) -> UInt8[Tensor, "b c h w"]:
    factors = 1 + (2 * sample_uniform((len(images), 1, 1, 1), device=images.device) - 1) * share
    return (images * factors.clamp(min=0)).round().clamp(0, 255).byte()
