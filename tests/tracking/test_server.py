"""The tracker against a real `mlflow server`, which goes away in the middle of a run."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa.tracking.mlflow_client import open_client
from lapa.tracking.registry import Registry
from lapa.tracking.tracker import open_tracker


class Server:
    """`mlflow server` with proxied artifacts, in its own process group."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            log = (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline and self._process.poll() is None, log
            time.sleep(0.2)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture
def server(tmp_path: Path, template_store: Path) -> Iterator[Server]:
    shutil.copyfile(template_store, tmp_path / "mlflow.db")
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_has_the_whole_run(server: Server, tmp_path: Path) -> None:
    tracker = open_tracker(
        TrackingConfig(uri=server.uri),
        store="s3://bucket/work",
        run_name="toy",
        stage="laq",
        tags={"lapa.fingerprint": "f1"},
        journal=tmp_path / "journal",
        open_seconds=60.0,
        system_metrics_seconds=None,
        flush_seconds=90.0,
    )
    assert tracker.url == f"{server.uri}/#/experiments/1/runs/{tracker.run_id}"
    for step in range(50):
        tracker.log_metrics({"loss": float(step)}, step)
    time.sleep(1.0)  # some of it is delivered, some may be under way

    server.kill()
    began = time.monotonic()
    for step in range(50, 100):
        tracker.log_metrics({"loss": float(step)}, step)
    tracker.log_image(np.zeros((4, 4, 3), np.uint8), "while-away")
    tracker.log_params({"seed": 0})
    assert time.monotonic() - began < 1.0, "logging never waits for the server"
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
    registry = Registry(server.uri, wait_seconds=10)
    with pytest.raises(TrackingError, match="object store"):
        registry.register("lapa-laq", str(folder), digest="d", inputs={})
    made = registry.register("lapa-laq", "s3://bucket/m", digest="d", inputs={}, verify=lambda url: None)
    registry.set_alias("lapa-laq", "candidate", made.version)
    assert registry.get("lapa-laq", "candidate").digest == "d"
