"""Latents become codes: one protocol, four ways, and two to compare with.

b batch, k codes per frame pair, e latent width, s codebook size.

A quantizer counts how its codes are used (`pending_usage`, of this rank, since the training task last
collected it) but never edits its own codebook: the task sees all ranks and decides. Quantization is
fp32 under any precision, so that near-ties do not flip labels.
"""

import math
from typing import NamedTuple, assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapa.config.latent_action import (
    FsqConfig,
    NoQuantizerConfig,
    NsvqConfig,
    QuantizerConfig,
    VqEmaConfig,
    WithheldConfig,
)
from lapa.errors import ConfigError
from lapa.models.randomness import sample_normal


class Quantized(NamedTuple):
    """A tuple, because DeepSpeed looks for tensors in module outputs and finds none in other records."""

    codes: Int64[Tensor, "b k"]
    vectors: Float[Tensor, "b k e"]
    """What the decoder sees: in training it carries gradients, in evaluation it is the code's own vector."""
    loss: Float[Tensor, ""]


class Quantizer(nn.Module):
    """Base of all. `latent_width` is what the encoder must produce."""

    usage: Tensor
    pending_usage: Tensor
    batches_used: Tensor
    initialized: Tensor

    def __init__(self, *, codes_per_pair: int, codebook_size: int, latent_width: int, initialized: bool = True) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.latent_width = latent_width
        counts = torch.zeros(codes_per_pair, codebook_size, dtype=torch.int64)
        self.register_buffer("pending_usage", counts, persistent=False)
        self.register_buffer("usage", counts.clone())
        self.register_buffer("batches_used", counts[0].clone())
        self.register_buffer("initialized", torch.tensor(initialized))

    def forward(
        self, latents: Float[Tensor, "b k e"] | None = None, *, codes: Int64[Tensor, "b k"] | None = None
    ) -> Quantized:
        """Name the latents; or, given codes, look their vectors up (through here, because under ZeRO-3 a
        module's weights are whole only inside its own call)."""
        if codes is not None:
            vectors = self.vectors_of(codes)
            return Quantized(codes, vectors, vectors.new_zeros(()))
        assert latents is not None
        with torch.autocast(latents.device.type, enabled=False):
            quantized = self.quantize(latents.float())
        if self.training:
            self._count(quantized.codes)
        return quantized

    def quantize(self, latents: Float[Tensor, "b k e"]) -> Quantized:
        raise NotImplementedError

    def vectors_of(self, codes: Int64[Tensor, "b k"]) -> Float[Tensor, "b k e"]:
        """What the decoder sees for given codes."""
        raise NotImplementedError

    @torch.no_grad()
    def _count(self, codes: Tensor) -> None:
        """True counts per position, on the device: no value travels to the host."""
        if self.codebook_size:
            ones = torch.ones_like(codes.T)
            self.pending_usage.scatter_add_(1, codes.T, ones)


class NsvqQuantizer(Quantizer):
    """Noise-substituted vector quantization (Vali and Backstrom 2022).

    The quantization error is replaced by noise of the same length, so gradients reach the latents
    directly and the nearest code through the length of the error. There is no further loss.
    """

    def __init__(self, config: NsvqConfig, codes_per_pair: int) -> None:
        super().__init__(
            codes_per_pair=codes_per_pair,
            codebook_size=config.codebook_size,
            latent_width=config.width,
            initialized=config.initialization == "normal",
        )
        self.codebook = nn.Parameter(torch.randn(config.codebook_size, config.width))

    def quantize(self, latents: Float[Tensor, "b k e"]) -> Quantized:
        codes = nearest(latents, self.codebook)
        vectors = self.vectors_of(codes)
        if self.training:
            noise = sample_normal(latents.shape, device=latents.device)
            error = (latents - vectors).norm(dim=-1, keepdim=True)
            vectors = latents + (error / noise.norm(dim=-1, keepdim=True) + 1e-12) * noise
        return Quantized(codes, vectors, latents.new_zeros(()))

    def vectors_of(self, codes: Int64[Tensor, "b k"]) -> Float[Tensor, "b k e"]:
        return F.embedding(codes, self.codebook.float())


class VqEmaQuantizer(Quantizer):
    """Straight-through vector quantization whose codebook is a running mean of the latents it names.

    `forward` only sums up what it saw; `absorb` moves the codebook, with the sums of all ranks.
    """

    codebook: Tensor
    weight: Tensor
    pending_sum: Tensor

    def __init__(self, config: VqEmaConfig, codes_per_pair: int) -> None:
        super().__init__(
            codes_per_pair=codes_per_pair,
            codebook_size=config.codebook_size,
            latent_width=config.width,
            initialized=False,
        )
        self.decay = config.decay
        self.commitment_weight = config.commitment_weight
        self.register_buffer("codebook", torch.randn(config.codebook_size, config.width))
        self.register_buffer("weight", torch.ones(config.codebook_size))
        self.register_buffer("pending_sum", torch.zeros(config.codebook_size, config.width), persistent=False)

    def quantize(self, latents: Float[Tensor, "b k e"]) -> Quantized:
        codes = nearest(latents, self.codebook)
        vectors = self.vectors_of(codes)
        loss = self.commitment_weight * F.mse_loss(latents, vectors)
        if self.training:
            self.pending_sum.index_add_(0, codes.flatten(), latents.detach().flatten(0, 1))
            vectors = latents + (vectors - latents).detach()
        return Quantized(codes, vectors, loss)

    def vectors_of(self, codes: Int64[Tensor, "b k"]) -> Float[Tensor, "b k e"]:
        return F.embedding(codes, self.codebook)

    @torch.no_grad()
    def absorb(self, counts: Int64[Tensor, " s"], sums: Float[Tensor, "s e"]) -> None:
        """One step of the running mean. A code that was not used keeps its vector."""
        old = self.decay * self.weight
        new = old + (1 - self.decay) * counts
        moved = (old[:, None] * self.codebook + (1 - self.decay) * sums) / new[:, None]
        self.codebook.copy_(moved)
        self.weight.copy_(new.clamp(min=1e-3))


class FsqQuantizer(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505): every dimension is rounded to a few levels.

    Latents are standardized over the batch first (no learned scale): unlike under a bare tanh they can
    neither drift into saturation nor shrink into the one level around zero, and all levels stay in use.
    Levels lie symmetric around zero. The paper's grid for even counts has a level at zero instead, which
    leaves one reachable value where there are two levels.
    """

    steps: Tensor
    basis: Tensor

    def __init__(self, config: FsqConfig, codes_per_pair: int, *, latent_width: int = 32) -> None:
        super().__init__(
            codes_per_pair=codes_per_pair, codebook_size=math.prod(config.levels), latent_width=latent_width
        )
        levels = torch.tensor(config.levels)
        self.narrow = nn.Linear(latent_width, len(levels))
        self.standardize = nn.BatchNorm1d(len(levels), affine=False, eps=1e-12)
        self.widen = nn.Linear(len(levels), latent_width)
        self.register_buffer("steps", levels - 1, persistent=False)
        self.register_buffer("basis", levels.cumprod(0) // levels, persistent=False)

    def quantize(self, latents: Float[Tensor, "b k e"]) -> Quantized:
        narrow = self.narrow(latents)
        standard = self.standardize(narrow.flatten(0, 1)).view_as(narrow)
        places = (standard.tanh() + 1) / 2 * self.steps  # 0 .. levels - 1
        digits = places.detach().round().long()
        rounded = places + (digits - places).detach()
        return Quantized((digits * self.basis).sum(-1), self._widened(rounded), latents.new_zeros(()))

    def vectors_of(self, codes: Int64[Tensor, "b k"]) -> Float[Tensor, "b k e"]:
        return self._widened(codes[..., None] // self.basis % (self.steps + 1))

    def _widened(self, digits: Tensor) -> Tensor:
        vectors: Tensor = self.widen(2 * digits / self.steps - 1)
        return vectors


class CodelessQuantizer(Quantizer):
    """Codes are all zero and mean nothing: the latents pass on as they are, or are withheld from the decoder."""

    def __init__(self, config: NoQuantizerConfig | WithheldConfig, codes_per_pair: int) -> None:
        super().__init__(codes_per_pair=codes_per_pair, codebook_size=0, latent_width=config.width)
        self.kind = config.kind

    def quantize(self, latents: Float[Tensor, "b k e"]) -> Quantized:
        codes = torch.zeros(latents.shape[:2], dtype=torch.int64, device=latents.device)
        vectors = torch.zeros_like(latents) if self.kind == "withheld" else latents
        return Quantized(codes, vectors, latents.new_zeros(()))

    def vectors_of(self, codes: Int64[Tensor, "b k"]) -> Float[Tensor, "b k e"]:
        raise ConfigError(
            f"this latent-action model has quantizer kind '{self.kind}', so codes cannot be decoded; "
            "train one with quantizer.kind=nsvq, vq_ema or fsq."
        )


def build_quantizer(config: QuantizerConfig, codes_per_pair: int) -> Quantizer:
    match config:
        case NsvqConfig():
            return NsvqQuantizer(config, codes_per_pair)
        case VqEmaConfig():
            return VqEmaQuantizer(config, codes_per_pair)
        case FsqConfig():
            return FsqQuantizer(config, codes_per_pair)
        case NoQuantizerConfig() | WithheldConfig():
            return CodelessQuantizer(config, codes_per_pair)
        case _:
            assert_never(config)


def nearest(latents: Float[Tensor, "b k e"], codebook: Float[Tensor, "s e"]) -> Int64[Tensor, "b k"]:
    """Index of the closest codebook row; the lower index on a tie."""
    with torch.no_grad():
        rows = codebook.float()
        distances = rows.square().sum(-1) - 2 * latents @ rows.T
        return distances.argmin(-1)
