"""Who wants to know how training goes. A hook receives reports and owns what it needs."""

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger(__name__)

PROGRESS_VARIABLE = "LAPA_PROGRESS_FILE"
"""Environment variable: a file that gets one JSON line per report, for whoever watches the run."""


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
    """Share of the time since the last report that was spent waiting for batches."""
    seconds: float
    """Since the loop started in this process."""
    numbers: dict[str, float] = field(default_factory=dict)
    """What the task's `after_update` returned since the last report."""


class Hook:
    """Reacts to reports; every reaction is optional. Called on every rank it was given to."""

    def after_step(self, report: StepReport) -> None:
        """An update was logged."""

    def after_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Validation ran; the metrics are those of all ranks."""

    def after_checkpoint(self, step: int, url: str) -> None:
        """A complete checkpoint exists at `url`."""


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
    """One log line per report, and one JSON line in the file that LAPA_PROGRESS_FILE names."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        path = os.environ.get(PROGRESS_VARIABLE)
        self.file = Path(path) if path else None

    def after_step(self, report: StepReport) -> None:
        logger.info(
            "stage=%s step=%d/%d loss=%.5g lr=%.3g samples_per_second=%.4g data_wait=%.0f%%",
            self.stage, report.step, report.steps, report.losses["total"], report.learning_rate,
            report.samples_per_second, 100 * report.data_wait_share,
        )  # fmt: skip
        left = (report.steps - report.step) / max(1, report.step)
        self._write(
            event="step",
            step=report.step,
            steps=report.steps,
            losses=report.losses,
            samples_per_second=report.samples_per_second,
            data_wait_share=report.data_wait_share,
            seconds=report.seconds,
            share_left=left / (1 + left),
        )

    def after_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        numbers = " ".join(f"{name}={value:.5g}" for name, value in sorted(metrics.items()))
        logger.info("stage=%s event=validation step=%d %s", self.stage, step, numbers)
        self._write(event="validation", step=step, metrics=dict(metrics))

    def after_checkpoint(self, step: int, url: str) -> None:
        logger.info("stage=%s event=checkpoint step=%d url=%s", self.stage, step, url)
        self._write(event="checkpoint", step=step, url=url)

    def _write(self, **entry: Any) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(json.dumps({"stage": self.stage, "time": time.time(), **entry}) + "\n")
