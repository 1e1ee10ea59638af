"""Runs that hold papers, not training: the report of a promotion, the outcomes of an evaluation.

Unlike a stage's tracker nothing waits in a journal here: evidence is on the server, or the caller is told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa.tracking.delivery import brief
from lapa.tracking.mlflow_client import artifact_url, open_client, tracking_uri

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run that was kept."""

    run_id: str
    url: str | None
    """Its web page; None for a store without a web server."""


class Records:
    """Papers in one experiment of one MLflow server. Every method raises TrackingError when that fails."""

    def __init__(self, uri: str, experiment: str, artifacts: str | None) -> None:
        self._uri, self._name, self._artifacts = uri, experiment, artifacts
        self._client = open_client(uri)

    @classmethod
    def open(cls, config: TrackingConfig, *, store: str) -> "Records":
        """Beside a run's tracking; `store` is the work folder."""
        return cls(tracking_uri(config, store), config.experiment, artifact_url(config, store))

    def keep(self, name: str, *, tags: Mapping[str, str], texts: Mapping[str, str]) -> Record:
        """A finished run with these texts as artifacts, by path. All of it is there when this returns."""

        def write() -> Record:
            experiment = self._experiment()
            run_id = self._client.create_run(experiment, tags=dict(tags), run_name=name).info.run_id
            try:
                for path, text in texts.items():
                    self._client.log_text(run_id, text, path)
            except Exception:
                self._client.set_terminated(run_id, "FAILED")
                raise
            self._client.set_terminated(run_id, "FINISHED")
            page = f"{self._uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
            return Record(run_id=run_id, url=page if self._uri.startswith("http") else None)

        return self._asked(write, f"keep {', '.join(texts)}")

    def read(self, run_id: str, path: str) -> str:
        """A text artifact of a run."""

        def download() -> str:
            with TemporaryDirectory(prefix="lapa-record-") as folder:
                return Path(self._client.download_artifacts(run_id, path, folder)).read_text(encoding="utf-8")

        return self._asked(download, f"give {path} of run {run_id}")

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._name)
        if found is None:
            return str(self._client.create_experiment(self._name, artifact_location=self._artifacts))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _asked(self, request: Callable[[], Answer], what: str) -> Answer:
        try:
            return request()
        except Exception as error:  # a client raises what its transport or its object store raises
            raise TrackingError(
                f"The tracking server {self._uri} could not {what}: {brief(error)}. Check that the server and its "
                "artifact store answer, then repeat the command: it is safe to."
            ) from error
