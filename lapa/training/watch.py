"""What is known about the updates since somebody asked last: losses, speed, and whether they still are numbers."""

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lapa.config.training import FitConfig
from lapa.errors import CheckpointError, LossNotFinite
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import Engine
from lapa.training.hooks import StepReport
from lapa.training.profiling import phase
from lapa.types.batches import Batch


@dataclass
class Watch:
    """Kept on the device until somebody asks."""

    engine: Engine
    config: FitConfig
    checkpoints: Checkpoints
    losses: dict[str, Tensor] = field(default_factory=dict)
    gradient_norm: Tensor | float = 0.0
    numbers: dict[str, float] = field(default_factory=dict)
    # Sum of everything that must be finite: one broken update keeps it broken until it is looked at.
    health: Tensor | float = 0.0
    # Updates since then after which it was still a number.
    sound: Tensor | int = 0
    checked_step: int = field(init=False)
    samples: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.checked_step = self.engine.step

    def wait_for(self, stream: Iterator[Batch]) -> Batch:
        before = time.monotonic()
        with phase("data"):
            batch = next(stream)
        self.waited += time.monotonic() - before
        return batch

    def note(
        self, batch: Batch, losses: dict[str, Tensor], gradient_norm: Tensor | float, numbers: dict[str, float]
    ) -> None:
        self.losses, self.gradient_norm = losses, gradient_norm
        self.numbers |= numbers
        self.health = self.health + losses["total"] + gradient_norm
        self.sound = self.sound + torch.isfinite(self.health)
        self.samples += batch.size * self.engine.world_size

    def check_finite(self) -> None:
        """LossNotFinite on every rank when any rank's loss or gradient was no number since the last check."""
        (is_broken,) = self.engine.any_of(not math.isfinite(float(self.health)))
        if is_broken:
            step = self.checked_step + 1 + int(min(self._of_ranks(float(self.sound))))
            # A save that fails meanwhile has been logged, and must not hide why the run ends.
            with suppress(CheckpointError):
                self.checkpoints.flush(self.engine)
            newest = self.checkpoints.newest
            before = f"The last checkpoint, {newest}, is from before." if newest else "No checkpoint was saved before."
            raise LossNotFinite(
                f"The loss or the gradient became NaN or infinite in step {step}, which was seen after step "
                f"{self.engine.step} (learning_rate={self.config.optimizer.learning_rate}, "
                f"precision={self.config.precision}). {before} Lower optimizer.learning_rate, lengthen the "
                "warm-up, or set precision=fp32, and start again."
            )
        self.health, self.sound, self.checked_step = 0.0, 0, self.engine.step

    def report(self) -> StepReport:
        self.check_finite()
        now = time.monotonic()
        seconds = max(now - self.reported, 1e-9)
        names = sorted(self.losses)
        means = self.engine.reduce_mean(torch.stack([self.losses[name].float() for name in names])).tolist()
        report = StepReport(
            step=self.engine.step,
            steps=self.config.steps,
            losses=dict(zip(names, means, strict=True)),
            learning_rate=self.engine.learning_rate(),
            gradient_norm=float(self.gradient_norm),
            samples_per_second=self.samples / seconds,
            data_wait_share=self.waited / seconds,
            data_wait_seconds=self._of_ranks(self.waited),
            seconds=now - self.started,
            numbers=self.numbers,
        )
        self.numbers, self.samples, self.waited, self.reported = {}, 0, 0.0, now
        return report

    def _of_ranks(self, number: float) -> tuple[float, ...]:
        """Every rank's own number. Collective."""
        numbers = torch.zeros(self.engine.world_size, device=self.engine.device)
        numbers[self.engine.rank] = number
        return tuple(self.engine.reduce_sum(numbers).tolist())
