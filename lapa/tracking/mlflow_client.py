"""The only module that touches MLflow. Everything goes through `MlflowClient`: no fluent API, no active run,
no autologging, so a program that uses MLflow itself keeps its own state."""

import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fsspec.core import split_protocol

from lapa.config.run import TrackingConfig
from lapa.errors import MissingDependency, TrackingError
from lapa.files import join
from lapa.tracking.delivery import Refused, brief
from lapa.tracking.journal import Entry, Journal

logger = logging.getLogger(__name__)

FINGERPRINT_TAG = "lapa.fingerprint"
WORK_TAG = "lapa.work"
MAX_PARAM_CHARACTERS = 6000
"""MLflow cuts longer values without a word; we cut them with an ellipsis."""
TRANSIENT_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")


def import_mlflow() -> Any:
    """The `mlflow` package, quiet and quick to fail: waiting for a server is the journal's business."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # A server's client prints the addresses of a run that ends, among the data that a command prints.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        import mlflow
    except ImportError as error:
        raise MissingDependency("Tracking needs mlflow, which is not installed. `pip install mlflow`.") from error
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return mlflow


def tracking_uri(config: TrackingConfig, work_url: str) -> str:
    """The server or store of a run: the config's, the environment's, or a SQLite file of our own.

    The file lies in the work folder; for a work folder in an object store, in `~/.lapa`.
    """
    if uri := config.uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    folder = _local_path(work_url)
    if folder is None:
        folder = Path.home() / ".lapa"
        logger.info("tracking store=%s reason=%s is remote; set tracking.uri to share it", folder, work_url)
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def artifact_url(config: TrackingConfig, work_url: str) -> str | None:
    """Where a new experiment keeps its artifacts: the config's word, else beside a SQLite store; None leaves it
    to the server.

    MLflow's own choice for a SQLite store is `mlruns` in whatever folder the program was started from.
    """
    if config.artifact_url:
        return config.artifact_url
    if not (config.uri or os.environ.get("MLFLOW_TRACKING_URI")) and _local_path(work_url) is None:
        return join(work_url, "mlflow-artifacts")
    file = _sqlite_file(tracking_uri(config, work_url))
    return None if file is None else (file.resolve().parent / "mlflow-artifacts").as_uri()


def run_identity(run_name: str, stage: str, tags: Mapping[str, str], work_url: str) -> dict[str, str]:
    """The tags every run carries; fingerprint and work folder together tell runs apart."""
    folder = _local_path(work_url)
    work = work_url if folder is None else str(folder.resolve())
    return {"lapa.stage": stage, "lapa.run": run_name, "lapa.host": socket.gethostname(), WORK_TAG: work, **tags}


def open_client(uri: str) -> Any:
    """A client of one server or store. Raises `TrackingError` when the address itself is unusable."""
    mlflow = import_mlflow()
    if (file := _sqlite_file(uri)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            logger.info("tracking store=%s is being created, which takes some seconds", file)
    try:
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    except mlflow.exceptions.MlflowException as error:
        raise TrackingError(
            f"tracking.uri={uri} is no MLflow store ({brief(error)}). Use http(s)://…, sqlite:///… or postgresql://…."
        ) from error


def is_refusal(error: Exception) -> bool:
    """Whether the server understood and said no: asking again would change nothing."""
    mlflow = import_mlflow()
    if not isinstance(error, mlflow.exceptions.MlflowException):
        return False
    if isinstance(error, mlflow.exceptions.RestException) and error.get_http_status_code() >= 500:
        return False
    if isinstance(error.__cause__, OSError) or "locked" in str(error):
        return False
    # What the client raises on a connection that fails carries INTERNAL_ERROR; a proxy's 502 or 429 likewise.
    return error.error_code not in TRANSIENT_CODES


class RunWriter:
    """Opens the MLflow run of a journal, when it can be reached, and writes entries into it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._run = journal.read_run()
        self._client = open_client(self._run["uri"])
        self.is_open = False
        """Whether the server has acknowledged the run in this process."""
        self.refusal: Exception | None = None
        """Why the server would not open the run when it was last asked; an outage is no refusal."""

    @property
    def run_id(self) -> str:
        """Empty until the server knows the run."""
        return str(self._run.get("run_id") or "")

    @property
    def url(self) -> str | None:
        """The run's page; None for a store without a web server, or until the server knows the run."""
        base = self._run["uri"]
        if not base.startswith("http") or not self.run_id or not self._run.get("experiment_id"):
            return None
        return f"{base.rstrip('/')}/#/experiments/{self._run['experiment_id']}/runs/{self.run_id}"

    def open(self) -> None:
        """Continue the run this journal, the caller or the fingerprint names, else create one."""
        experiment = self._experiment()
        run_id = self._existing(experiment)
        if run_id is None:
            created = self._client.create_run(
                experiment, start_time=self._run["started_ms"], tags=self._run["tags"], run_name=self._run["run_name"]
            )
            run_id = created.info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._run |= {"run_id": run_id, "experiment_id": experiment}
        self._journal.write_run(self._run)
        self.is_open = True
        logger.info("tracking run=%s experiment=%s uri=%s", run_id, self._run["experiment"], self._run["uri"])

    def take(self, entries: Sequence[Entry]) -> None:
        if not self.is_open:
            self._open_noting_refusal()
        try:
            if entries[0].kind in ("metrics", "params", "tags"):
                self._batch(entries)
            else:
                for entry in entries:
                    self._one(entry)
        except Exception as error:
            if is_refusal(error):
                raise Refused(str(error)) from error
            raise

    def _open_noting_refusal(self) -> None:
        try:
            self.open()
            self.refusal = None
        except Exception as error:
            # Not `Refused`: no entry is at fault, and all of them wait until the run can be opened.
            self.refusal = error if is_refusal(error) else None
            raise

    def _experiment(self) -> str:
        name = self._run["experiment"]
        if found := self._client.get_experiment_by_name(name):
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=self._run["artifact_url"]))

    def _existing(self, experiment: str) -> str | None:
        mlflow = import_mlflow()
        if self.run_id:
            try:
                found = self._client.get_run(self.run_id)
                if found.info.lifecycle_stage == "active":
                    return self.run_id
            except mlflow.exceptions.MlflowException as error:
                if not is_refusal(error):
                    raise
                logger.warning("tracking run=%s is gone; a new one is made", self.run_id)
        return find_run(self._client, experiment, self._run["tags"])

    def _batch(self, entries: Sequence[Entry]) -> None:
        entities = import_mlflow().entities
        metrics = [
            entities.Metric(name, float(value), entry.time_ms, entry.data["step"])
            for entry in entries
            if entry.kind == "metrics"
            for name, value in entry.data["values"].items()
        ]
        params = {k: v for entry in entries if entry.kind == "params" for k, v in entry.data["values"].items()}
        tags = {k: v for entry in entries if entry.kind == "tags" for k, v in entry.data["values"].items()}
        if params:
            params = self._new_params(params)
        self._client.log_batch(
            self.run_id,
            metrics=metrics,
            params=[entities.Param(k, v) for k, v in params.items()],
            tags=[entities.RunTag(k, v) for k, v in tags.items()],
        )

    def _new_params(self, params: dict[str, str]) -> dict[str, str]:
        """MLflow never changes a parameter: a resumed run keeps its first values and warns of the others."""
        known = self._client.get_run(self.run_id).data.params
        for name, value in params.items():
            if name in known and known[name] != value:
                logger.warning("tracking param=%s stays=%s now=%s", name, known[name], value)
        return {name: value for name, value in params.items() if name not in known}

    def _one(self, entry: Entry) -> None:
        match entry.kind:
            case "file":
                path = self._journal.folder / entry.data["file"]
                if not path.exists():
                    raise Refused(f"{path} is gone")
                self._client.log_artifact(self.run_id, str(path), entry.data["folder"] or None)
            case "input":
                self._input(entry.data)
            case "status":
                self._client.set_terminated(self.run_id, entry.data["status"], entry.time_ms)
            case other:
                raise Refused(f"entry kind {other!r} is unknown; it was written by another version")

    def _input(self, data: Mapping[str, Any]) -> None:
        entities = import_mlflow().entities
        dataset = entities.Dataset(
            name=data["name"],
            digest=data["revision"][:32],  # the server takes 36 characters
            source_type="url",
            source=json.dumps({"url": data["url"], "revision": data["revision"]}),
        )
        context = entities.InputTag("mlflow.data.context", data["name"])
        self._client.log_inputs(self.run_id, datasets=[entities.DatasetInput(dataset, [context])])


def find_run(client: Any, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """The run that an earlier attempt of the same stage in the same work folder opened; None without one."""
    if not (fingerprint := tags.get(FINGERPRINT_TAG)):
        return None
    runs = client.search_runs(
        [experiment_id],
        filter_string=f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'",
        order_by=["attributes.start_time DESC"],
        max_results=50,
    )
    return next((run.info.run_id for run in runs if run.data.tags.get(WORK_TAG) == tags.get(WORK_TAG)), None)


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, without the URI's options; None for another kind of store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def _local_path(url: str) -> Path | None:
    protocol, path = split_protocol(str(url))
    return Path(path) if protocol in (None, "file", "local") else None
