"""What a backbone is to the heads: hidden states at the end of the prompt and at the tokens after it."""

from pathlib import Path
from typing import Protocol

from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapa.models.vla.tokens import TokenTable
from lapa.types.batches import Images


class Reading(Protocol):
    """A prompt that was read once and is continued token by token."""

    hidden: Float[Tensor, "b d"]
    """At the last position so far."""

    def append(self, ids: Int64[Tensor, " b"]) -> None:
        """Continue every sample by one token of the table."""


class Backbone(nn.Module):
    """Base of backbones. b batch, m suffix tokens, d width."""

    width: int
    std: float = 0.02
    """Scale of newly drawn rows and output layers."""
    tokens: TokenTable

    def forward(
        self, images: Images, instructions: tuple[str, ...], suffix: Int64[Tensor, "b m"]
    ) -> Float[Tensor, "b m+1 d"]:
        """Hidden states at the last prompt position and at each suffix token, which sees only what
        precedes it. `suffix` holds ids of `tokens`."""
        raise NotImplementedError

    def read(self, images: Images, instructions: tuple[str, ...]) -> Reading:
        """Start decoding."""
        raise NotImplementedError

    def lengths(self, instructions: tuple[str, ...]) -> list[int] | None:
        """Tokens of each prompt, without its frames, where a batch costs as much as its longest prompt; None where it
        does not."""
        return None

    def compilable(self) -> list[nn.Module]:
        """Inner modules that `torch.compile` was seen to take: most of the work, and only tensors go in. None unless a
        backbone says otherwise."""
        return []

    def save_files(self, folder: Path) -> None:
        """Write what rebuilding the backbone needs beside its config and weights; many need nothing."""
