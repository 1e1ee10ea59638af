"""Pretraining the vision-language-action model: observation and instruction in, latent action out."""

import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lapa.models.vla.spec import VlaSpec
from lapa.training.engine import Engine
from lapa.training.tasks.vla import VlaTask
from lapa.types.batches import Batch

logger = logging.getLogger(__name__)

MAX_JOINT_CODES = 1 << 20
"""Largest number of different latent actions that are counted one by one."""


class PretrainTask(VlaTask):
    """Implements `lapa.training.task.Task`."""

    def __init__(self, spec: VlaSpec) -> None:
        super().__init__()
        self.spec = spec

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        self._look_at(engine)
        results = engine.run(batch)
        return {"total": results["latent"], **results}

    def validate(self, engine: Engine, batches: Iterable[Batch]) -> dict[str, float]:
        """Held-out accuracy, beside that of always answering with the most frequent code or latent action.

        Positions are judged after the true codes before them; a whole latent action counts only when all
        its codes are right, which is exactly when greedy decoding gives it.
        """
        self._look_at(engine)
        tally = CodeAccuracy(self.spec, engine.device)
        for batch in batches:
            tally.add(engine.run(batch), batch)
        return tally.metrics(engine)

    def verdicts(self, metrics: Mapping[str, float]) -> list[str]:
        """What the last validation means, in words."""
        if not metrics.get("samples"):
            return ["No episode was held out, so nothing is known about new observations."]
        mine, majority = metrics["accuracy/latent_action"], metrics.get("majority/latent_action")
        if majority is None:
            return [f"{mine:.1%} of held-out latent actions are predicted exactly."]
        against = _against(mine, majority, metrics["samples"])
        return [
            f"{mine:.1%} of held-out latent actions are predicted exactly; this {against} always answering with the "
            f"most frequent one ({majority:.1%})."
        ]


def _against(mine: float, majority: float, samples: float) -> str:
    """Equal counts tie, whatever their sums were rounded to, and so does what reads alike."""
    if abs(mine - majority) * samples < 0.5 or f"{mine:.1%}" == f"{majority:.1%}":
        return "only ties with"
    return "beats" if mine > majority else "does not beat"


class CodeAccuracy:
    """Sums over held-out batches. n codes per pair, v codebook entries."""

    def __init__(self, spec: VlaSpec, device: torch.device) -> None:
        self.positions, self.entries = spec.codes_per_pair, spec.codebook_size
        self.names = ["latent", "accuracy/latent_action", *(f"accuracy/code_{i}" for i in range(self.positions))]
        self.sums = torch.zeros(len(self.names), device=device, dtype=torch.float64)
        self.samples = torch.zeros((), device=device, dtype=torch.float64)
        self.counts = torch.zeros(self.positions, self.entries, device=device, dtype=torch.float64)
        joint = self.entries**self.positions
        counted = joint <= MAX_JOINT_CODES
        self.joint = torch.zeros(joint, device=device, dtype=torch.float64) if counted else None

    def add(self, results: Mapping[str, Tensor], batch: Batch) -> None:
        assert batch.codes is not None, "pretraining asks the stream for labels"
        self.samples += batch.size
        self.sums += batch.size * torch.stack([results[name].double() for name in self.names])
        self.counts += torch.nn.functional.one_hot(batch.codes, self.entries).sum(dim=0)
        if self.joint is not None:
            place = self.entries ** torch.arange(self.positions, device=batch.codes.device)
            self.joint += torch.bincount((batch.codes * place).sum(dim=-1), minlength=len(self.joint))

    def metrics(self, engine: Engine) -> dict[str, float]:
        """Over all ranks. Collective."""
        samples = float(engine.reduce_sum(self.samples))
        if not samples:
            return {"samples": 0.0}
        values = (engine.reduce_sum(self.sums) / samples).tolist()
        majority = (engine.reduce_sum(self.counts).max(dim=-1).values / samples).tolist()
        metrics = {"samples": samples, **dict(zip(self.names, values, strict=True))}
        metrics |= {f"majority/code_{i}": value for i, value in enumerate(majority)}
        if self.joint is not None:
            metrics["majority/latent_action"] = float(engine.reduce_sum(self.joint).max()) / samples
        return metrics
