"""What the small convolutional networks share. Their FiLM blocks look alike and differ in where the norm is."""

import torch
from jaxtyping import Float
from torch import Tensor


def groups(width: int) -> int:
    """Of a group norm: at most eight, and a divisor of the width."""
    return next(count for count in (8, 5, 4, 2, 1) if width % count == 0)


def coordinates(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "1 2 h w"]:
    """x and y of every cell in [-1, 1]: a convolution cannot know where it is."""
    height, width = features.shape[-2:]
    y = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)
    x = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).unsqueeze(0)
