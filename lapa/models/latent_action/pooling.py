"""From a grid of tokens per frame to a few vectors per frame pair.

b batch, n = grid**2 tokens, k codes per frame pair, d token width, e latent width.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


def code_grid(codes: int) -> tuple[int, int]:
    """Rows and columns that `codes` are laid out in, row-major: as square as they get, never wider than high."""
    columns = max(c for c in range(1, math.isqrt(codes) + 1) if codes % c == 0)
    return codes // columns, columns


class ChangePooling(nn.Module):
    """The change between two frames: what the second frame pools to, minus what the first pools to.

    A strided convolution halves the grid, an unpadded one shrinks it to the code grid: 8x8 to 4x4 to 2x2
    for the paper's 4 codes. Where the code grid does not fit into the patch grid, the last convolution
    covers the whole grid and has one set of channels per code.
    """

    def __init__(self, grid: int, width: int, codes: int, latent_width: int) -> None:
        super().__init__()
        self.grid = grid
        self.codes = codes
        rows, columns = code_grid(codes)
        stride = 2 if (grid + 1) // 2 >= rows else 1
        halved = (grid - 1) // stride + 1
        fits = halved >= rows
        kernel = (halved - rows + 1, halved - columns + 1) if fits else (halved, halved)
        self.project = nn.Linear(width, latent_width)
        self.halve = nn.Conv2d(latent_width, latent_width, 3, stride=stride, padding=1)
        self.shrink = nn.Conv2d(latent_width, latent_width * (1 if fits else codes), kernel)

    def forward(self, first: Float[Tensor, "b n d"], second: Float[Tensor, "b n d"]) -> Float[Tensor, "b k e"]:
        tokens = self.project(torch.cat((first, second)))
        maps = rearrange(tokens, "b (h w) e -> b e h w", h=self.grid)
        pooled = self.shrink(self.halve(maps).relu())
        if pooled.shape[-2] * pooled.shape[-1] == self.codes:
            vectors = rearrange(pooled, "b e h w -> b (h w) e")
        else:
            vectors = rearrange(pooled, "b (k e) 1 1 -> b k e", k=self.codes)
        before, after = vectors.chunk(2)
        out: Tensor = (after - before).contiguous()
        return out
