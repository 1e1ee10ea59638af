"""The tracker against a real `mlflow server`, which goes away in the middle of a run."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow_server import MlflowServer

from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa.tracking.mlflow_client import open_client
from lapa.tracking.registry import Registry
from lapa.tracking.tracker import open_tracker


@pytest.fixture
def server(tmp_path: Path, template_store: Path) -> Iterator[MlflowServer]:
    shutil.copyfile(template_store, tmp_path / "mlflow.db")
    server = MlflowServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_has_the_whole_run(server: MlflowServer, tmp_path: Path) -> None:
    tracker = open_tracker(
        TrackingConfig(uri=server.uri),
        store="s3://bucket/work",
        run_name="toy",
        stage="laq",
        tags={"lapa.fingerprint": "f1"},
        journal=tmp_path / "journal",
        open_seconds=600.0,
        system_metrics_seconds=None,
        flush_seconds=600.0,
    )
    assert tracker.url == f"{server.uri}/#/experiments/1/runs/{tracker.run_id}"
    for step in range(50):
        tracker.log_metrics({"loss": float(step)}, step)
    time.sleep(1.0)  # some of it is delivered, some may be under way

    server.kill()
    for step in range(50, 100):
        tracker.log_metrics({"loss": float(step)}, step)
    tracker.log_image(np.zeros((4, 4, 3), np.uint8), "while-away")
    tracker.log_params({"seed": 0})
    time.sleep(1.0)

    server.start()
    tracker.finish("FINISHED")

    client = open_client(server.uri)
    run = client.get_run(tracker.run_id)
    points = sorted((point.step, point.value) for point in client.get_metric_history(tracker.run_id, "loss"))
    assert points == [(step, float(step)) for step in range(100)]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "0"}
    assert [file.path for file in client.list_artifacts(tracker.run_id, "pictures")] == ["pictures/while-away.png"]

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    registry = Registry(server.uri, wait_seconds=300)
    with pytest.raises(TrackingError, match="object store"):
        registry.register("lapa-laq", str(folder), digest="d", inputs={})
    made = registry.register("lapa-laq", "s3://bucket/m", digest="d", inputs={}, verify=lambda url: None)
    registry.set_alias("lapa-laq", "candidate", made.version)
    assert registry.get("lapa-laq", "candidate").digest == "d"
