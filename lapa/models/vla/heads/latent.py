"""Predicts the latent action: one code after the other, each among the codebook's entries."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapa.models.vla.heads.layers import NewLinear
from lapa.types.batches import NO_CODE


class LatentHead(nn.Module):
    """Paper section 3.2: a single linear layer over a vocabulary of codes. b batch, n codes, v entries, d width."""

    vocabulary = "latent"

    def __init__(self, codes_per_pair: int, codebook_size: int, width: int, std: float) -> None:
        super().__init__()
        self.length, self.rows = codes_per_pair, codebook_size
        self.logits = NewLinear(width, codebook_size, std)

    def forward(self, hidden: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        logits: Tensor = self.logits(hidden)
        return logits.float()

    def at(self, position: int, hidden: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """Logits of one position."""
        del position  # every position chooses from the same codebook
        logits: Tensor = self.logits(hidden)
        return logits.float()

    def suffix(self, codes: Int64[Tensor, "b n"]) -> Int64[Tensor, "b n-1"]:
        """Tokens after the prompt while training: all codes but the last, which nothing follows."""
        return codes[:, :-1].clamp(min=0)

    def losses(self, hidden: Float[Tensor, "b n d"], codes: Int64[Tensor, "b n"]) -> dict[str, Tensor]:
        """Cross-entropy over the samples that have codes. A whole action counts as right exactly when greedy
        decoding would give it."""
        logits = self(hidden)
        labelled = (codes != NO_CODE).all(dim=-1).float()
        count = labelled.sum().clamp(min=1)
        correct = ((logits.argmax(dim=-1) == codes).float() * labelled[:, None]).detach()
        wrongness = F.cross_entropy(
            rearrange(logits, "b n v -> (b n) v"),
            rearrange(codes, "b n -> (b n)"),
            ignore_index=NO_CODE,
            reduction="sum",
        )
        losses = {"latent": wrongness / (count * self.length)}
        losses["accuracy/latent_action"] = correct.prod(dim=-1).sum() / count
        return losses | {f"accuracy/code_{i}": correct[:, i].sum() / count for i in range(self.length)}
