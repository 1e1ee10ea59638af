"""How well codes reconstruct and how evenly they are used, summed on the device and over ranks.

b batch, k codes per frame pair, s codebook size.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lapa.config.latent_action import LatentActionConfig, NsvqConfig, RevivalConfig, VqEmaConfig
from lapa.config.stages import STILL, LaqConfig
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
        self.has_codebook = isinstance(config.quantizer, NsvqConfig | VqEmaConfig)
        self.pairs = torch.zeros((), dtype=torch.float64, device=device)
        self.latents: Tensor | None = None  # sums and sums of squares of latents, 2 k e
        self.distance = torch.zeros((), dtype=torch.float64, device=device)  # of latents to their codes, squared

    def add(self, output: LatentActionOutput) -> None:
        wrong = (output.reconstruction.float() - output.future).square().sum(dtype=torch.float64)
        copied = (output.current - output.future).square().sum(dtype=torch.float64)
        self.errors += torch.stack((wrong, copied, wrong.new_tensor(output.future.numel())))
        if self.size:
            self.usage.scatter_add_(1, output.codes.T, torch.ones_like(output.codes.T))
            weights = self.size ** torch.arange(self.positions, device=output.codes.device)
            places = (output.codes * weights).sum(-1) % self.num_joint
            self.joint.scatter_add_(0, places, torch.ones_like(places))
        if self.has_codebook:
            latents = output.vectors.double()
            sums = torch.stack((latents.sum(0), latents.square().sum(0)))
            self.latents = sums if self.latents is None else self.latents + sums
            self.distance += (latents - output.quantized).square().sum()
            self.pairs += len(latents)

    def metrics(self, reduce_sum: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """`relative_error` is 1 for a model that repeats the current frame; `quantization_error` is the mean squared
        distance of latents to their codes, relative to their variance: below 1 for a codebook that tells latents
        apart, and far above it for one that lies elsewhere."""
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
            **self._spread(reduce_sum),
        }

    def _spread(self, reduce_sum: Callable[[Tensor], Tensor]) -> dict[str, float]:
        if self.latents is None:
            return {}
        pairs, distance = reduce_sum(torch.stack((self.pairs, self.distance))).tolist()
        sums, squares = reduce_sum(self.latents) / pairs
        variance = (squares - sums.square()).clamp(min=0)
        return {
            "latent_std": float(variance.mean().sqrt()),
            "quantization_error": distance / pairs / max(float(variance.sum()), 1e-12),
        }


def collapse_in_words(metrics: Mapping[str, float], config: LaqConfig) -> str:
    """What is wrong with a collapsed codebook, the likeliest cause, and which settings to change."""
    health = config.health
    joint = metrics.get("joint_perplexity", float("nan"))
    return (
        f"the codebook has collapsed: {metrics['perplexity']:.2f} of {config.model.codebook_size} codes and "
        f"{joint:.2f} latent actions are in use (perplexity; laq.health asks for {health.min_perplexity:g} and "
        f"{health.min_joint_perplexity:g}). Nearly every change gets the same name, and a policy cannot learn from "
        f"that. {_likeliest_cause(metrics, config)} If that does not help: lower laq.fit.optimizer.learning_rate "
        f"(now {config.fit.optimizer.learning_rate:g}), or take laq.model.quantizer.kind=fsq, which has no codebook to "
        "collapse. To go on regardless: laq.health.on_collapse=warn."
    )


def _likeliest_cause(metrics: Mapping[str, float], config: LaqConfig) -> str:
    quantizer = config.model.quantizer
    if metrics.get("copy_error", 1.0) < STILL:
        return (
            f"The two frames of a pair hardly differ (mean squared error {metrics['copy_error']:.1g}), so there is "
            f"nothing to name: raise laq.window_seconds (now {config.window_seconds:g}), and look whether the videos "
            "show anything that moves."
        )
    if isinstance(quantizer, NsvqConfig) and quantizer.initialization == "normal":
        far = metrics.get("quantization_error", 0.0)
        return (
            f"The codebook lies far from the latents ({far:.3g} times their variance), as it does when it starts from "
            "random numbers: set laq.model.quantizer.initialization=data, and laq.model.quantizer.revival.every=100 "
            "with laq.model.quantizer.revival.kind left out, which restarts unused codes for the whole run."
        )
    revival = getattr(quantizer, "revival", None)
    if isinstance(quantizer, NsvqConfig | VqEmaConfig) and not isinstance(revival, RevivalConfig):
        return "Nothing restarts unused codes: set laq.model.quantizer.revival.every=100."
    if isinstance(revival, RevivalConfig) and metrics.get("quantization_error", 0.0) > 1:
        return (
            f"Latents have left the codebook behind (it is {metrics['quantization_error']:.3g} times their variance "
            f"away): restart unused codes more often, laq.model.quantizer.revival.every={max(1, revival.every // 4)}."
        )
    return (
        "The encoder gives nearly the same latents to every pair: train longer before judging (laq.health.patience), "
        f"or make the change between the frames larger, laq.window_seconds (now {config.window_seconds:g})."
    )


def perplexity(counts: Tensor) -> float:
    """How many entries a uniform distribution of the same entropy has."""
    shares = counts.double() / counts.sum().clamp(min=1)
    used = shares[shares > 0]
    return float(torch.exp(-(used * used.log()).sum())) if len(used) else 1.0
