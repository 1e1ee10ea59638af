"""The paper's latent-action transformer (arXiv 2410.11758, section 3.1 and appendix A).

b batch, t = 2 frames, n = h w patches, k codes per frame pair, d width, e latent width, c H W image.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lapa.config.latent_action import LatentActionConfig, TransformerArchitecture
from lapa.models.latent_action.attention import CosineAttention, FeedForward, PairAttention
from lapa.models.latent_action.pooling import ChangePooling
from lapa.models.latent_action.positions import LocalMixing, PositionBias


@dataclass(frozen=True)
class CurrentTokens:
    """The current frame as both dynamics need it."""

    tokens: Float[Tensor, "b n d"]
    bias: Float[Tensor, "heads n n"]
    """Attention bias of the patch grid, shared by encoder and decoder."""


class PatchEmbedding(nn.Module):
    """Patches to tokens, the same for every frame."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.pixel_norm = nn.LayerNorm(3 * patch_size**2)
        self.project = nn.Linear(3 * patch_size**2, width)
        self.token_norm = nn.LayerNorm(width)

    def forward(self, image: Float[Tensor, "b c H W"]) -> Float[Tensor, "b n d"]:
        size = self.patch_size
        patches = rearrange(image, "b c (h p) (w q) -> b (h w) (c p q)", p=size, q=size)
        tokens: Tensor = self.token_norm(self.project(self.pixel_norm(patches)))
        return tokens


class SpatialBlock(nn.Module):
    """One layer over the patches of each frame; in the decoder also over the codes."""

    def __init__(self, config: TransformerArchitecture, grid: int, frames: int, *, cross: bool = False) -> None:
        super().__init__()
        self.grid = grid
        shape = (config.width, config.heads, config.head_width)
        self.mixing = LocalMixing(config.width, frames)
        self.attention = CosineAttention(*shape)
        self.cross_attention = CosineAttention(*shape, cross=True, null_entries=2) if cross else None
        self.feedforward = FeedForward(config.width, config.feedforward_multiplier)

    def forward(
        self,
        tokens: Float[Tensor, "b t n d"],
        bias: Float[Tensor, "heads n n"],
        actions: Float[Tensor, "b k d"] | None = None,
    ) -> Float[Tensor, "b t n d"]:
        mixed = self.mixing(rearrange(tokens, "b t (h w) d -> b t h w d", h=self.grid))
        tokens = tokens + rearrange(mixed, "b t h w d -> b t (h w) d")
        frames = rearrange(tokens, "b t n d -> (b t) n d")
        frames = frames + self.attention(frames, bias=bias)
        if self.cross_attention is not None:
            frames = frames + self.cross_attention(frames, context=actions)
        frames = frames + self.feedforward(frames)
        out: Tensor = rearrange(frames, "(b t) n d -> b t n d", b=tokens.shape[0])
        return out


class TemporalBlock(nn.Module):
    """One layer over the two frames of each grid cell.

    With `released_layout` the convolution reads the (cell, frame) memory as if it were (frame, cell), as
    the released code does (a reshape where a transpose was meant): it mixes unrelated cells of both frames.
    """

    def __init__(self, config: TransformerArchitecture, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.released_layout = config.released_layout
        self.mixing = LocalMixing(config.width, frames=2)
        self.attention = PairAttention(config.width, config.heads, config.head_width, causal=config.causal_temporal)
        self.feedforward = FeedForward(config.width, config.feedforward_multiplier)

    def forward(self, tokens: Float[Tensor, "b n 2 d"]) -> Float[Tensor, "b n 2 d"]:
        tokens = tokens + self._mix(tokens)
        cells = rearrange(tokens, "b n t d -> (b n) t d")
        cells = cells + self.attention(cells)
        cells = cells + self.feedforward(cells)
        out: Tensor = rearrange(cells, "(b n) t d -> b n t d", b=tokens.shape[0])
        return out

    def _mix(self, tokens: Tensor) -> Tensor:
        b, n, t, d = tokens.shape
        if self.released_layout:
            scrambled: Tensor = self.mixing(tokens.reshape(b, t, self.grid, self.grid, d))
            return scrambled.reshape(b, n, t, d)
        mixed = self.mixing(rearrange(tokens, "b (h w) t d -> b t h w d", h=self.grid))
        out: Tensor = rearrange(mixed, "b t h w d -> b (h w) t d")
        return out


class InverseDynamics(nn.Module):
    """Both frames in, the change between them out."""

    def __init__(self, config: TransformerArchitecture, grid: int, codes: int, latent_width: int) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(SpatialBlock(config, grid, frames=2) for _ in range(config.spatial_depth))
        self.spatial_norm = nn.LayerNorm(config.width, bias=False)
        self.temporal = nn.ModuleList(TemporalBlock(config, grid) for _ in range(config.temporal_depth))
        self.temporal_norm = nn.LayerNorm(config.width, bias=False)
        self.pooling = ChangePooling(grid, config.width, codes, latent_width)

    def forward(
        self, current: Float[Tensor, "b n d"], future: Float[Tensor, "b n d"], bias: Float[Tensor, "heads n n"]
    ) -> Float[Tensor, "b k e"]:
        tokens = torch.stack((current, future), dim=1)  # b t n d
        for block in self.spatial:
            tokens = block(tokens, bias)
        tokens = rearrange(self.spatial_norm(tokens), "b t n d -> b n t d").contiguous()
        for block in self.temporal:
            tokens = block(tokens)
        tokens = self.temporal_norm(tokens)
        latents: Tensor = self.pooling(tokens[:, :, 0], tokens[:, :, 1])
        return latents


class ForwardDynamics(nn.Module):
    """The current frame and the codes in, the future frame out.

    Code tokens get a learned position: without one, cross-attention sees them as a set and could not tell
    which code came first. The released layout has no positions; there each token holds a share of the
    channels of every code instead.
    """

    def __init__(self, config: TransformerArchitecture, grid: int, codes: int, latent_width: int) -> None:
        super().__init__()
        self.grid = grid
        self.patch_size = config.patch_size
        self.code_projection = CodeTokens(codes, latent_width, config.width, released_layout=config.released_layout)
        self.blocks = nn.ModuleList(
            SpatialBlock(config, grid, frames=1, cross=True) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.to_pixels = nn.Linear(config.width, 3 * config.patch_size**2)

    def forward(
        self, current: Float[Tensor, "b n d"], bias: Float[Tensor, "heads n n"], vectors: Float[Tensor, "b k e"]
    ) -> Float[Tensor, "b c H W"]:
        actions = self.code_projection(vectors)
        tokens = current[:, None]  # b t n d, one frame
        for block in self.blocks:
            tokens = block(tokens, bias, actions)
        pixels = self.to_pixels(self.norm(tokens[:, 0]))
        size = self.patch_size
        out: Tensor = rearrange(pixels, "b (h w) (c p q) -> b c (h p) (w q)", h=self.grid, p=size, q=size)
        return out


class CodeTokens(nn.Module):
    """Quantized vectors as tokens of the decoder's width."""

    def __init__(self, codes: int, latent_width: int, width: int, *, released_layout: bool) -> None:
        super().__init__()
        self.project = nn.Linear(latent_width, width)
        self.position = None if released_layout else nn.Parameter(torch.randn(codes, width) * width**-0.5)

    def forward(self, vectors: Float[Tensor, "b k e"]) -> Float[Tensor, "b k d"]:
        if self.position is not None:
            tokens: Tensor = self.project(vectors) + self.position
            return tokens
        b, k, e = vectors.shape
        scrambled = rearrange(vectors.reshape(b, e, k), "b e k -> b k e")
        released: Tensor = self.project(scrambled)
        return released


class TransformerDynamics(nn.Module):
    """Inverse and forward dynamics over one patch embedding and one position bias."""

    def __init__(self, config: LatentActionConfig, architecture: TransformerArchitecture, latent_width: int) -> None:
        super().__init__()
        grid = config.image_size // architecture.patch_size
        codes = config.codes_per_pair
        self.patches = PatchEmbedding(architecture.patch_size, architecture.width)
        self.position_bias = PositionBias(grid, architecture.width, architecture.heads)
        self.inverse_dynamics = InverseDynamics(architecture, grid, codes, latent_width)
        self.forward_dynamics = ForwardDynamics(architecture, grid, codes, latent_width)

    def observe(self, current: Float[Tensor, "b c H W"]) -> CurrentTokens:
        return CurrentTokens(self.patches(current), self.position_bias())

    def infer(self, observed: CurrentTokens, future: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k e"]:
        latents: Tensor = self.inverse_dynamics(observed.tokens, self.patches(future), observed.bias)
        return latents

    def predict(self, observed: CurrentTokens, vectors: Float[Tensor, "b k e"]) -> Float[Tensor, "b c H W"]:
        """Gradients stop at the current frame's tokens, else the embedding itself can collapse (appendix A)."""
        image: Tensor = self.forward_dynamics(observed.tokens.detach(), observed.bias, vectors)
        return image
