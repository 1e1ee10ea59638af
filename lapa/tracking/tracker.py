"""What a stage tells about its run: parameters, numbers over time, pictures, files, inputs."""

import json
import logging
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import UInt8

from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa.tracking.delivery import Delivery, brief
from lapa.tracking.journal import Journal
from lapa.tracking.mlflow_client import MAX_PARAM_CHARACTERS, RunWriter, artifact_url, run_identity, tracking_uri
from lapa.tracking.stage_log import StageLog
from lapa.tracking.system_metrics import SystemSampler

logger = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """None of these waits for a server, and none fails because of one."""

    @property
    def run_id(self) -> str:
        """The tracking server's id of this run; empty until the server could be reached."""

    @property
    def url(self) -> str | None:
        """The run's web page, where there is one."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Settings, flat: nested values are logged as JSON."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def log_text(self, text: str, name: str) -> None:
        """A text artifact; `name` may hold folders: `config/run.yaml`."""

    def log_image(self, image: UInt8[np.ndarray, "h w 3"], name: str) -> None:
        """A picture, kept as `pictures/NAME.png` here and on the server."""

    def log_file(self, path: Path, folder: str = "") -> None:
        """A copy of a file, into a folder of the run's artifacts."""

    def log_input(self, name: str, url: str, revision: str) -> None:
        """A dataset the run reads, and which revision of it."""

    def set_tags(self, tags: Mapping[str, str]) -> None: ...

    def finish(self, status: RunStatus = "FINISHED") -> None:
        """Send what is left and close the run. Nothing is logged after this."""


class NullTracker:
    """Logs nothing: every rank but the first."""

    run_id = ""
    url: str | None = None

    def log_params(self, params: Mapping[str, Any]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...
    def log_text(self, text: str, name: str) -> None: ...
    def log_image(self, image: UInt8[np.ndarray, "h w 3"], name: str) -> None: ...
    def log_file(self, path: Path, folder: str = "") -> None: ...
    def log_input(self, name: str, url: str, revision: str) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def finish(self, status: RunStatus = "FINISHED") -> None: ...


class FolderTracker(NullTracker):
    """Keeps numbers and pictures in the stage's own folder alone: with `tracking.enabled=false`."""

    def __init__(self, log: StageLog) -> None:
        self._log = log

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._log.metrics({name: float(value) for name, value in metrics.items()}, step)

    def log_image(self, image: UInt8[np.ndarray, "h w 3"], name: str) -> None:
        self._log.picture(png_bytes(image), name)

    def finish(self, status: RunStatus = "FINISHED") -> None:
        self._log.flush(force=True)


class MlflowTracker:
    """Writes everything to a journal on disk first; a thread carries it to MLflow from there."""

    def __init__(
        self,
        journal: Journal,
        writer: RunWriter,
        log: StageLog | None,
        *,
        deliver_every_seconds: float = 2.0,
        system_metrics_seconds: float | None = 10.0,
        flush_seconds: float = 60.0,
    ) -> None:
        self._journal, self._writer, self._log, self._flush_seconds = journal, writer, log, flush_seconds
        self._delivery = Delivery(journal, writer, every_seconds=deliver_every_seconds, also=self._flush_log)
        self._started_ms = int(journal.read_run()["started_ms"])
        self._sampler = None
        if system_metrics_seconds is not None:
            self._sampler = SystemSampler(self._log_system, every_seconds=system_metrics_seconds)
            self._sampler.start()
        self._delivery.start()

    @property
    def run_id(self) -> str:
        return self._writer.run_id

    @property
    def url(self) -> str | None:
        return self._writer.url

    @property
    def is_open(self) -> bool:
        """Whether the server has acknowledged the run in this process."""
        return self._writer.is_open

    def abandon(self) -> None:
        """Stop the threads; what is undelivered stays in the journal."""
        if self._sampler is not None:
            self._sampler.stop()
        self._delivery.stop()
        self._journal.close()

    def log_params(self, params: Mapping[str, Any]) -> None:
        texts = {name: _param(value) for name, value in params.items()}
        names = list(texts)
        for start in range(0, len(names), 100):
            self._journal.append("params", {"values": {name: texts[name] for name in names[start : start + 100]}})

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        if self._log is not None:
            self._log.metrics(values, step)
        self._journal.append("metrics", {"step": step, "values": values})

    def log_text(self, text: str, name: str) -> None:
        self._keep(text.encode(), name)

    def log_image(self, image: UInt8[np.ndarray, "h w 3"], name: str) -> None:
        png = png_bytes(image)
        if self._log is not None:
            self._log.picture(png, name)
        self._keep(png, f"pictures/{name}.png")

    def log_file(self, path: Path, folder: str = "") -> None:
        self._journal.append("file", {"file": self._journal.keep_file(path, path.name), "folder": folder})

    def log_input(self, name: str, url: str, revision: str) -> None:
        self._journal.append("input", {"name": name, "url": url, "revision": revision})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        if tags:
            self._journal.append("tags", {"values": {name: str(value) for name, value in tags.items()}})

    def finish(self, status: RunStatus = "FINISHED") -> None:
        if self._sampler is not None:
            self._sampler.stop()  # so that its last sample comes before the end of the run
        self._journal.append("status", {"status": status})
        if not self._delivery.flush(self._flush_seconds):
            logger.warning(
                "tracking undelivered=%d journal=%s remedy=it is sent when this stage runs again, or now by "
                "`python -m lapa.tracking %s`",
                len(self._journal), self._journal.folder, self._journal.folder,
            )  # fmt: skip
        self.abandon()
        if self._log is not None:
            self._log.flush(force=True)

    def _keep(self, data: bytes, name: str) -> None:
        folder, _, last = name.rpartition("/")
        self._journal.append("file", {"file": self._journal.keep_bytes(data, last), "folder": folder})

    def _log_system(self, numbers: dict[str, float]) -> None:
        # Seconds since the run began, so that the samples of a resumed run follow those before it.
        step = (int(time.time() * 1000) - self._started_ms) // 1000
        self._journal.append("metrics", {"step": step, "values": numbers})

    def _flush_log(self) -> None:
        if self._log is None:
            return
        try:
            self._log.flush()
        except Exception as error:  # the object store comes back, or finish() says so
            logger.warning("metrics.jsonl not written why=%s", brief(error))


def open_tracker(
    config: TrackingConfig,
    *,
    store: Path | str,
    run_name: str,
    stage: str,
    tags: Mapping[str, str],
    journal: Path,
    folder: Path | str | None = None,
    run_id: str | None = None,
    rank: int = 0,
    open_seconds: float = 10.0,
    system_metrics_seconds: float | None = 10.0,
    flush_seconds: float = 60.0,
) -> Tracker:
    """Open, or continue, the MLflow run of one stage.

    ``store`` is the work folder: home of the embedded store, and part of the run's identity. ``tags``
    should hold `lapa.fingerprint`: a stage that starts again finds its run by it, when neither ``run_id``
    nor the journal names one. ``journal`` is a local folder that outlives a restart. ``folder`` is the
    stage's own folder, for `metrics.jsonl` and `pictures/`. Waits up to ``open_seconds`` for the server;
    without it the run is opened later. Raises `TrackingError` when the server refuses, `MissingDependency`
    without mlflow. With tracking off there is neither server nor journal.
    """
    if rank != 0:
        return NullTracker()
    if not config.enabled:
        return FolderTracker(StageLog(str(folder))) if folder is not None else NullTracker()
    work, notes = str(store), Journal(journal)
    identity = {name: str(value) for name, value in run_identity(run_name, stage, tags, work).items()}
    _note_run(notes, config, work, name=f"{run_name}-{stage}", identity=identity, run_id=run_id)
    writer = RunWriter(notes)
    # First in the queue, so that the run appears on the server before the first number is logged.
    notes.append("tags", {"values": identity})
    tracker = MlflowTracker(
        notes,
        writer,
        StageLog(str(folder)) if folder is not None else None,
        system_metrics_seconds=system_metrics_seconds,
        flush_seconds=flush_seconds,
    )
    _wait_until_open(tracker, writer, tracking_uri(config, work), open_seconds)
    return tracker


def _note_run(
    notes: Journal, config: TrackingConfig, work: str, *, name: str, identity: Mapping[str, str], run_id: str | None
) -> None:
    """In the journal: where the run is, and who it is. A run that began elsewhere starts anew."""
    uri = tracking_uri(config, work)
    known = notes.read_run()
    if known.get("uri") not in (None, uri):
        logger.warning("tracking moved from=%s to=%s; the run starts anew there", known["uri"], uri)
        known = {}
    notes.write_run(
        {
            "uri": uri,
            "experiment": config.experiment,
            "artifact_url": artifact_url(config, work),
            "run_name": name,
            "tags": dict(identity),
            "started_ms": known.get("started_ms", int(time.time() * 1000)),
            "run_id": run_id or known.get("run_id"),
            "experiment_id": known.get("experiment_id"),
        }
    )


def _wait_until_open(tracker: MlflowTracker, writer: RunWriter, uri: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not tracker.is_open and time.monotonic() < deadline:
        if writer.refusal is not None:
            tracker.abandon()
            raise TrackingError(
                f"The tracking server {uri} refuses the run: {brief(writer.refusal)}. Check tracking.uri and "
                "the credentials in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
            )
        time.sleep(0.05)
    if not tracker.is_open:
        logger.warning("tracking away uri=%s; the run goes on, its record waits in the journal", uri)


def png_bytes(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _param(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MAX_PARAM_CHARACTERS else text[: MAX_PARAM_CHARACTERS - 1] + "…"
