"""What the small convolutional networks share. Their FiLM blocks look alike and differ in where the norm is."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """At most eight groups. Computes in float32 whatever the features are: under bf16 autocast that is what a norm
    needs, and torch's bf16 kernel for channels-last memory takes several times as long on a CPU."""

    def __init__(self, width: int) -> None:
        super().__init__(next(count for count in (8, 5, 4, 2, 1) if width % count == 0), width)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        normal = F.group_norm(features.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps)
        return normal.to(features.dtype)


def coordinates(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "1 2 h w"]:
    """x and y of every cell in [-1, 1]: a convolution cannot know where it is."""
    height, width = features.shape[-2:]
    y = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)
    x = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).unsqueeze(0)
