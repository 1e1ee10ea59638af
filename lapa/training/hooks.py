"""Who wants to know how training goes. A hook receives reports and owns what it needs."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from lapa.errors import TrainingError
from lapa.tracking.progress import report_progress, report_resumption

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One logged update. The same on every rank."""

    step: int
    steps: int
    losses: dict[str, float]
    """Means over micro batches and ranks of this update; `total` is what is minimized."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    samples_per_second: float
    """Over all ranks, since the last report."""
    data_wait_share: float
    """Share of the time since the last report that was spent waiting for batches. This rank's own."""
    data_wait_seconds: tuple[float, ...]
    """The same time, of every rank: one that waits makes all others wait for it in the next collective."""
    seconds: float
    """Since the loop started in this process."""
    numbers: dict[str, float] = field(default_factory=dict)
    """What the task's `after_update` returned since the last report."""


class Hook:
    """Reacts to reports; every reaction is optional. Called on every rank it was given to."""

    def after_resume(self, step: int, steps: int) -> None:
        """Training goes on from a checkpoint of an earlier start."""

    def after_update(self, step: int) -> None:
        """An update was made: every one, so this must cost nothing."""

    def after_step(self, report: StepReport) -> None:
        """An update was logged."""

    def after_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Validation ran; the metrics are those of all ranks."""

    def after_checkpoint(self, step: int, url: str) -> None:
        """A complete checkpoint exists at `url`."""

    def after_failure(self, error: TrainingError) -> None:
        """Training cannot go on; on every rank alike."""


class Hooks(Hook):
    """Several as one, told in their order."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self.hooks = tuple(hooks)

    def after_resume(self, step: int, steps: int) -> None:
        for hook in self.hooks:
            hook.after_resume(step, steps)

    def after_update(self, step: int) -> None:
        for hook in self.hooks:
            hook.after_update(step)

    def after_step(self, report: StepReport) -> None:
        for hook in self.hooks:
            hook.after_step(report)

    def after_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        for hook in self.hooks:
            hook.after_validation(step, metrics)

    def after_checkpoint(self, step: int, url: str) -> None:
        for hook in self.hooks:
            hook.after_checkpoint(step, url)

    def after_failure(self, error: TrainingError) -> None:
        for hook in self.hooks:
            hook.after_failure(error)

    @contextmanager
    def told_of_failure(self) -> Iterator[None]:
        """Inside, a TrainingError is told before it goes on."""
        try:
            yield
        except TrainingError as error:
            self.after_failure(error)
            raise


class MetricsSink(Protocol):
    """The part of a tracker that this module uses."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


class MetricsHook(Hook):
    """Numbers over time go to the tracker: `train/…`, `speed/…`, `validation/…`."""

    def __init__(self, tracker: MetricsSink) -> None:
        self.tracker = tracker

    def after_step(self, report: StepReport) -> None:
        metrics = {f"train/{name}": value for name, value in (report.losses | report.numbers).items()}
        metrics |= {"train/learning_rate": report.learning_rate, "train/gradient_norm": report.gradient_norm}
        metrics |= {
            "speed/samples_per_second": report.samples_per_second,
            "speed/data_wait_share": report.data_wait_share,
        }
        self.tracker.log_metrics(metrics, report.step)

    def after_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        self.tracker.log_metrics({f"validation/{name}": value for name, value in metrics.items()}, step)


class ProgressHook(Hook):
    """One log line per report, and one event for whoever watches the stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._last: StepReport | None = None

    def after_resume(self, step: int, steps: int) -> None:
        report_resumption(self.stage, f"goes on from step {step} of {steps}")

    def after_step(self, report: StepReport) -> None:
        logger.info(
            "stage=%s step=%d/%d loss=%.5g lr=%.3g samples_per_second=%.4g data_wait=%.0f%%",
            self.stage, report.step, report.steps, report.losses["total"], report.learning_rate,
            report.samples_per_second, 100 * report.data_wait_share,
        )  # fmt: skip
        report_progress(
            self.stage,
            "train",
            step=report.step,
            steps=report.steps,
            rate=self._steps_per_second(report),
            unit="steps",
            metrics={"loss": report.losses["total"]},
            message=f"{report.samples_per_second:.0f} samples/s",
        )
        self._last = report

    def after_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        numbers = " ".join(f"{name}={value:.5g}" for name, value in sorted(metrics.items()))
        logger.info("stage=%s event=validation step=%d %s", self.stage, step, numbers)

    def after_checkpoint(self, step: int, url: str) -> None:
        logger.info("stage=%s event=checkpoint step=%d url=%s", self.stage, step, url)

    def _steps_per_second(self, report: StepReport) -> float | None:
        """Since the last report; unknown at the first one of a process, whose steps may have been resumed."""
        if self._last is None:
            return None
        return (report.step - self._last.step) / max(report.seconds - self._last.seconds, 1e-9)
