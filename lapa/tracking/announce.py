"""The MLflow run of a stage that starts later, on another machine: opened now, so that its page can be shown now.

The stage finds it as a restarted stage finds its own: by fingerprint and work folder.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa.tracking.delivery import brief
from lapa.tracking.journal import Journal
from lapa.tracking.mlflow_client import RunWriter, artifact_url, open_client, run_identity, tracking_uri


class AnnouncedRun(NamedTuple):
    """A run that waits for its stage."""

    run_id: str
    url: str | None


def announce_run(
    config: TrackingConfig, *, work_url: str, run_name: str, stage: str, fingerprint: str, tags: Mapping[str, str]
) -> AnnouncedRun:
    """Open the run, or find the one that an earlier attempt opened; MLflow shows it as scheduled.

    Raises TrackingError when the server refuses or does not answer, MissingDependency without mlflow.
    """
    uri = tracking_uri(config, work_url)
    identity = run_identity(run_name, stage, {"lapa.fingerprint": fingerprint, **tags}, work_url)
    with tempfile.TemporaryDirectory(prefix="lapa-announce-") as folder:
        journal = Journal(Path(folder))
        journal.write_run(
            {
                "uri": uri,
                "experiment": config.experiment,
                "artifact_url": artifact_url(config, work_url),
                "run_name": f"{run_name}-{stage}",
                "tags": identity,
                "started_ms": int(time.time() * 1000),
                "run_id": None,
                "experiment_id": None,
            }
        )
        try:
            writer = RunWriter(journal)
            writer.open()
            open_client(uri).update_run(writer.run_id, status="SCHEDULED")
        except TrackingError:
            raise
        except Exception as error:  # a client raises what its transport raises
            raise TrackingError(f"the tracking server {uri} did not open a run: {brief(error)}") from error
        finally:
            journal.close()
    return AnnouncedRun(writer.run_id, writer.url)


def withdraw_run(config: TrackingConfig, *, work_url: str, run_id: str) -> None:
    """End a run that still waits for its stage, as killed. One whose stage has started is that stage's to end.

    Raises TrackingError when the server refuses or does not answer, MissingDependency without mlflow.
    """
    client = open_client(tracking_uri(config, work_url))
    try:
        if client.get_run(run_id).info.status == "SCHEDULED":
            client.set_terminated(run_id, "KILLED")
    except Exception as error:  # a client raises what its transport raises
        raise TrackingError(f"run {run_id} could not be closed: {brief(error)}") from error
