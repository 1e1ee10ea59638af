"""Which codes are restarted, and where: pure functions of usage and latents.

s codebook size, m latents, e latent width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor


@dataclass(frozen=True)
class RevivalPlan:
    """Codebook rows to overwrite, and their new values."""

    rows: Int64[Tensor, " r"]
    values: Float[Tensor, "r e"]


def plan_revival(
    usage: Int64[Tensor, " s"],
    latents: Float[Tensor, "m e"],
    codebook: Float[Tensor, "s e"],
    *,
    min_share: float,
    generator: Generator | None = None,
) -> RevivalPlan:
    """Codes used less often than `min_share` of all tokens restart at latents far from the codes that live."""
    total = int(usage.sum())
    dead = (usage < min_share * max(total, 1)).nonzero()[:, 0]
    alive = codebook[usage >= min_share * max(total, 1)]
    return RevivalPlan(dead, spread_sample(latents, len(dead), away_from=alive, generator=generator))


def plan_published_revival(
    batches_used: Int64[Tensor, " s"],
    codebook: Float[Tensor, "s e"],
    *,
    batch_size: int,
    min_share: float,
    generator: Generator | None = None,
) -> RevivalPlan:
    """The published rule: a code seen in fewer batches than `min_share` of the batch size restarts on top of
    a code that is in use. Nothing restarts when none is in use."""
    used = batches_used / batch_size >= min_share
    rows = (~used).nonzero()[:, 0]
    living = codebook[used]
    if not len(living):
        return RevivalPlan(rows[:0], codebook[:0])
    chosen = torch.randint(len(living), (len(rows),), generator=generator)
    noise = torch.randn(len(rows), codebook.shape[1], generator=generator)
    return RevivalPlan(rows, living[chosen.to(living.device)] + 1e-12 * noise.to(living.device))


def is_published_revival_step(step: int) -> bool:
    """Steps 10..90 by 10, 100..900 by 100, 1000..4500 by 500."""
    return 0 < step < 5000 and ((step < 100 and step % 10 == 0) or (step < 1000 and step % 100 == 0) or step % 500 == 0)


def spread_sample(
    latents: Float[Tensor, "m e"],
    count: int,
    *,
    away_from: Float[Tensor, "r e"] | None = None,
    generator: Generator | None = None,
) -> Float[Tensor, "n e"]:
    """`count` of the latents, each drawn with a chance that grows with its squared distance to what was
    chosen before (k-means++). When all latents coincide, the draws are told apart by small noise."""
    latents = latents.float().cpu()
    chosen = list(away_from.float().cpu()) if away_from is not None else []
    first_new = len(chosen)
    for _ in range(count):
        weights = torch.ones(len(latents))
        if chosen:
            weights = torch.cdist(latents, torch.stack(chosen)).amin(1).square()
        if not weights.sum() > 0:
            weights = torch.ones(len(latents))
        chosen.append(latents[torch.multinomial(weights, 1, generator=generator)[0]])
    if not count:
        return latents[:0]
    spread = latents.std(0, correction=0).mean().clamp(min=1e-4)
    values = torch.stack(chosen[first_new:])
    return values + 1e-2 * spread * torch.randn(values.shape, generator=generator)
