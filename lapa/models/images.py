"""Images on their way into a model: any size, uint8, turned into what a network computes on."""

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


def to_unit(images: UInt8[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c size size"]:
    """Floats in [0, 1] at `size` x `size`, on the images' own device.

    Frames of another size are resampled (bilinear, antialiased); the aspect is not kept, as published.
    """
    unit = images.float() / 255
    if tuple(images.shape[-2:]) == (size, size):
        return unit
    return F.interpolate(unit, size=(size, size), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def to_bytes(unit: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """The inverse of `to_unit`, for pictures."""
    return (unit.clamp(0, 1) * 255).round().byte()
