"""What Prometheus reads of a training that runs: `LAPA_METRICS_PORT` opens a port for it.

The chart's alerts (`helm/lapa/files/alerts/workloads.yaml`) are written for these names. MLflow has the curves; here
is only what tells a training that works from one that hangs, starves, or cannot save.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Summary, start_http_server

from lapa.errors import ConfigError, TrainingError
from lapa.training.distributed import Launch
from lapa.training.hooks import Hook, StepReport

logger = logging.getLogger(__name__)

PORT_VARIABLE = "LAPA_METRICS_PORT"
LAST_WORDS_SECONDS = 65.0
"""How long a training that failed stays readable: two scrapes, at the chart's 30 s. A process that has ended can tell
nobody why, and not every operator keeps its exit code."""


class TrainingMetrics:
    """The series, in a registry of their own. Times are Unix seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.last_step = self._gauge("lapa_train_last_step_timestamp_seconds", "Last update, or the start before any.")
        self.step_seconds = Summary(
            "lapa_train_step_seconds", "From update to update, with all that lies between.", registry=self.registry
        )
        self.step = self._gauge("lapa_train_step", "Updates made.")
        self.steps = self._gauge("lapa_train_steps", "Updates asked for.")
        self.loss = self._gauge("lapa_train_loss", "What is minimized, mean over ranks.")
        self.gradient_norm = self._gauge("lapa_train_gradient_norm", "Before clipping.")
        self.samples = self._gauge("lapa_train_samples_per_second", "Over all ranks.")
        self.waits = Counter("lapa_data_wait_seconds", "Spent waiting for batches.", ["rank"], registry=self.registry)
        self.last_checkpoint = self._gauge(
            "lapa_checkpoint_last_success_timestamp_seconds", "Last complete checkpoint, or the start before any."
        )
        self.failed = Gauge(
            "lapa_train_failed", "1 when training cannot go on, and why.", ["reason"], registry=self.registry
        )

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self.registry)


class MetricsServer(Hook):
    """Serves the numbers of a training over HTTP: rank 0 all of them.

    The first rank of every other node serves an empty page, since each pod of a job is a target of the same
    monitor, and one that does not answer is an alarm of its own. A port that is taken costs a warning, no training.
    """

    def __init__(self, launch: Launch, port: int, *, last_words_seconds: float = LAST_WORDS_SECONDS) -> None:
        self._metrics = TrainingMetrics()
        self._last_words_seconds = last_words_seconds
        self._updated: float | None = None
        now = time.time()
        # Before the first of either: a training that never steps or never saves must not look like none at all.
        self._metrics.last_step.set(now)
        self._metrics.last_checkpoint.set(now)
        shown = self._metrics.registry if launch.rank == 0 else CollectorRegistry()
        self._server = _opened(port, shown) if launch.local_rank == 0 else None

    @property
    def port(self) -> int | None:
        """Where it listens; None where it does not."""
        return self._server.server_port if self._server else None

    def after_update(self, step: int) -> None:
        now = time.monotonic()
        if self._updated is not None:
            self._metrics.step_seconds.observe(now - self._updated)
        self._updated = now
        self._metrics.last_step.set_to_current_time()
        self._metrics.step.set(step)

    def after_step(self, report: StepReport) -> None:
        self._metrics.steps.set(report.steps)
        self._metrics.loss.set(report.losses["total"])
        self._metrics.gradient_norm.set(report.gradient_norm)
        self._metrics.samples.set(report.samples_per_second)
        for rank, seconds in enumerate(report.data_wait_seconds):
            self._metrics.waits.labels(rank=str(rank)).inc(seconds)

    def after_checkpoint(self, step: int, url: str) -> None:
        self._metrics.last_checkpoint.set_to_current_time()

    def after_failure(self, error: TrainingError) -> None:
        self._metrics.failed.labels(reason=type(error).__name__).set(1)
        logger.error("event=failed kind=%s next=end in_seconds=%g", type(error).__name__, self._last_words_seconds)
        # On every rank: a launcher stops those that are left when the first one ends.
        time.sleep(self._last_words_seconds)

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def served_metrics() -> Iterator[list[Hook]]:
    """Inside, Prometheus can read what the hooks are told; no hooks where the environment names no port.

    ConfigError for a port that is none.
    """
    text = os.environ.get(PORT_VARIABLE, "")
    if not text:
        yield []
        return
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise ConfigError(f"{PORT_VARIABLE}={text} is no port: set a number from 1 to 65535, or leave it out.")
    server = MetricsServer(Launch.from_environment(), int(text))
    try:
        yield [server]
    finally:
        server.close()


def _opened(port: int, registry: CollectorRegistry) -> WSGIServer | None:
    try:
        server, _ = start_http_server(port, registry=registry)
    except OSError as error:
        logger.warning("event=no-metrics port=%d why=%s; %s names another port", port, error, PORT_VARIABLE)
        return None
    return server
