"""How the latent-action transformer knows where a token is: a bias on attention, and a local convolution.

b batch, t frames, h w grid of patches, n = h w, d width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class PositionBias(nn.Module):
    """Attention bias as a learned function of the offset between two grid cells (Swin v2, arXiv 2111.09883).

    An h x w grid has n**2 pairs of cells but only (2h-1)(2w-1) distinct offsets: the network sees those.
    """

    offsets: Tensor
    index: Tensor

    def __init__(self, grid: int, width: int, heads: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(2, width), nn.LeakyReLU(0.1), nn.Linear(width, width), nn.LeakyReLU(0.1), nn.Linear(width, heads)
        )
        span = torch.arange(1 - grid, grid, dtype=torch.float32)
        offsets = torch.cartesian_prod(span, span)
        cells = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))  # n 2
        steps = cells[:, None] - cells[None] + grid - 1  # n n 2
        self.register_buffer("offsets", offsets.sign() * torch.log1p(offsets.abs()), persistent=False)
        self.register_buffer("index", steps[..., 0] * (2 * grid - 1) + steps[..., 1], persistent=False)

    def forward(self) -> Float[Tensor, "heads n n"]:
        per_offset = self.network(self.offsets)
        out: Tensor = rearrange(per_offset[self.index], "i j heads -> heads i j")
        return out


class LocalMixing(nn.Module):
    """Position-encoding generator: a depthwise 3x3 convolution over this frame and the one before it.

    The published form is a causal 3x3x3 convolution. With at most two frames its oldest time slice only
    ever meets padding, so it is not stored. Tap 0 sees the same frame, tap 1 the frame before.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        bound = 27**-0.5  # torch's default for the published kernel: 3 * 3 * 3 inputs per output
        self.taps = nn.Parameter(torch.empty(frames, width, 1, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, grid: Float[Tensor, "b t h w d"]) -> Float[Tensor, "b t h w d"]:
        mixed = self._convolve(grid, self.taps[0], self.bias)
        if len(self.taps) == 1:
            return mixed
        earlier = self._convolve(grid[:, :-1], self.taps[1], None)
        return torch.cat((mixed[:, :1], mixed[:, 1:] + earlier), dim=1)

    @staticmethod
    def _convolve(grid: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """Channels stay last in memory: the permutation is a view."""
        images = rearrange(grid, "b t h w d -> (b t) d h w")
        out = F.conv2d(images, kernel, bias, padding=1, groups=grid.shape[-1])
        return rearrange(out, "(b t) d h w -> b t h w d", b=grid.shape[0])
