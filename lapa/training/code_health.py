"""How well codes reconstruct and how evenly they are used, summed on the device and over ranks.

b batch, k codes per frame pair, s codebook size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lapa.config.latent_action import LatentActionConfig
from lapa.models.latent_action.model import LatentActionOutput

LARGEST_JOINT = 2**20
"""Beyond this many latent actions, several share a counter: coverage and perplexity are lower bounds then."""


class CodeTally:
    """Sums over validation batches."""

    def __init__(self, config: LatentActionConfig, device: torch.device) -> None:
        self.size, self.positions = config.codebook_size, config.codes_per_pair
        self.num_joint = min(self.size**self.positions, LARGEST_JOINT)
        self.errors = torch.zeros(3, dtype=torch.float64, device=device)  # of the model, of copying, values
        self.usage = torch.zeros(self.positions, self.size, dtype=torch.int64, device=device)
        self.joint = torch.zeros(self.num_joint, dtype=torch.int64, device=device)

    def add(self, output: LatentActionOutput) -> None:
        wrong = (output.reconstruction.float() - output.future).square().sum(dtype=torch.float64)
        copied = (output.current - output.future).square().sum(dtype=torch.float64)
        self.errors += torch.stack((wrong, copied, wrong.new_tensor(output.future.numel())))
        if self.size:
            self.usage.scatter_add_(1, output.codes.T, torch.ones_like(output.codes.T))
            weights = self.size ** torch.arange(self.positions, device=output.codes.device)
            places = (output.codes * weights).sum(-1) % self.num_joint
            self.joint.scatter_add_(0, places, torch.ones_like(places))

    def metrics(self, reduce_sum: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """`relative_error` is 1 for a model that repeats the current frame."""
        wrong, copied, values = reduce_sum(self.errors).tolist()
        if not values:
            return {}
        metrics = {
            "reconstruction_error": wrong / values,
            "copy_error": copied / values,
            "relative_error": wrong / max(copied, 1e-12),
        }
        if not self.size:
            return metrics
        usage, joint = reduce_sum(self.usage).cpu(), reduce_sum(self.joint).cpu()
        metrics |= {f"perplexity/position-{place}": perplexity(row) for place, row in enumerate(usage)}
        return metrics | {
            "perplexity": perplexity(usage.sum(0)),
            "dead_share": float((usage.sum(0) == 0).float().mean()),
            "joint_perplexity": perplexity(joint),
            "joint_coverage": float((joint > 0).float().mean()),
        }


def perplexity(counts: Tensor) -> float:
    """How many entries a uniform distribution of the same entropy has."""
    shares = counts.double() / counts.sum().clamp(min=1)
    used = shares[shares > 0]
    return float(torch.exp(-(used * used.log()).sum())) if len(used) else 1.0
