"""A small latent-action model for small frames: convolutions in, FiLM out.

b batch, k codes per frame pair, e latent width, c H W image, d channels, h w feature grid.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lapa.config.latent_action import ConvolutionalArchitecture, LatentActionConfig
from lapa.models.convolution import GroupNorm, coordinates

LARGEST_GRID = 8
"""The encoder pools larger feature grids down to this before its last layer."""


class ConvolutionalInverseDynamics(nn.Module):
    """Sees the current frame and the change to the future one."""

    def __init__(self, image_size: int, architecture: ConvolutionalArchitecture, codes: int, latent_width: int) -> None:
        super().__init__()
        self.codes = codes
        width, half = architecture.width, architecture.width // 2
        grid = min(LARGEST_GRID, max(1, image_size // (2 * architecture.stem_stride)))
        self.layers = nn.Sequential(
            _stem(6, half, architecture.stem_stride),
            nn.ReLU(),
            nn.Conv2d(half, width, 3, stride=2, padding=1),
            GroupNorm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(grid),
        )
        self.to_latents = nn.Linear(width * grid**2, codes * latent_width)

    def forward(self, current: Float[Tensor, "b c H W"], future: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k e"]:
        features = self.layers(_channels_last(torch.cat((current - 0.5, 4 * (future - current)), dim=1)))
        out: Tensor = rearrange(self.to_latents(features.flatten(1)), "b (k e) -> b k e", k=self.codes)
        return out


class FilmBlock(nn.Module):
    """A residual convolution whose channels the codes scale and shift."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.norm = GroupNorm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(condition_width, 2 * width)

    def forward(self, features: Float[Tensor, "b d h w"], condition: Float[Tensor, "b f"]) -> Float[Tensor, "b d h w"]:
        scale, shift = rearrange(self.film(condition), "b (two d) -> two b d 1 1", two=2)
        hidden = self.first(self.norm(features)) * (1 + scale) + shift
        out: Tensor = features + self.second(hidden.relu())
        return out


class ConvolutionalForwardDynamics(nn.Module):
    """Sees the current frame and the codes. Best with a residual target: what does not move costs nothing."""

    def __init__(self, architecture: ConvolutionalArchitecture, codes: int, latent_width: int) -> None:
        super().__init__()
        width, stride = architecture.width, architecture.stem_stride
        self.stem = _stem(3, width - 2, stride)
        self.condition = nn.Sequential(nn.Linear(codes * latent_width, 2 * width), nn.ReLU())
        self.blocks = nn.ModuleList(FilmBlock(width, 2 * width) for _ in range(2))
        self.to_pixels = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, 3 * stride**2, 3, padding=1), nn.PixelShuffle(stride)
        )

    def forward(self, current: Float[Tensor, "b c H W"], vectors: Float[Tensor, "b k e"]) -> Float[Tensor, "b c H W"]:
        condition = self.condition(vectors.flatten(1))
        features = self.stem(_channels_last(current - 0.5))
        place = coordinates(features).flip(1)  # row before column
        features = torch.cat((features, place.expand(len(features), -1, -1, -1)), dim=1)
        for block in self.blocks:
            features = block(features, condition)
        image: Tensor = self.to_pixels(features)
        return image[..., : current.shape[-2], : current.shape[-1]]


class ConvolutionalDynamics(nn.Module):
    """Inverse and forward dynamics that share nothing but the frame."""

    def __init__(self, config: LatentActionConfig, architecture: ConvolutionalArchitecture, latent_width: int) -> None:
        super().__init__()
        codes = config.codes_per_pair
        self.inverse_dynamics = ConvolutionalInverseDynamics(config.image_size, architecture, codes, latent_width)
        self.forward_dynamics = ConvolutionalForwardDynamics(architecture, codes, latent_width)

    def observe(self, current: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c H W"]:
        return current

    def infer(self, observed: Float[Tensor, "b c H W"], future: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k e"]:
        latents: Tensor = self.inverse_dynamics(observed, future)
        return latents

    def predict(self, observed: Float[Tensor, "b c H W"], vectors: Float[Tensor, "b k e"]) -> Float[Tensor, "b c H W"]:
        image: Tensor = self.forward_dynamics(observed, vectors)
        return image


def _stem(channels: int, width: int, stride: int) -> nn.Conv2d:
    """Overlapping patches; a size that `stride` does not divide is padded up."""
    return nn.Conv2d(channels, width, 2 * stride - 1, stride=stride, padding=stride - 1)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
