"""A run that is opened before its stage starts is the stage's own."""

from pathlib import Path

import pytest

from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa.tracking.announce import announce_run, withdraw_run
from lapa.tracking.mlflow_client import open_client
from lapa.tracking.tracker import open_tracker


def announce(config: TrackingConfig, work: Path):
    return announce_run(
        config, work_url=str(work), run_name="demo", stage="laq", fingerprint="abc", tags={"lapa.job": "demo-laq"}
    )


def test_the_stage_continues_the_run_that_was_opened_for_it(work: Path, tmp_path: Path):
    config = TrackingConfig(uri=f"sqlite:///{work / 'mlflow.db'}")
    ahead = announce(config, work)
    client = open_client(str(config.uri))
    assert client.get_run(ahead.run_id).info.status == "SCHEDULED"
    assert announce(config, work).run_id == ahead.run_id
    tracker = open_tracker(
        config,
        store=work,
        run_name="demo",
        stage="laq",
        tags={"lapa.fingerprint": "abc"},
        journal=tmp_path / "journal",
        system_metrics_seconds=None,
    )
    tracker.finish()
    assert tracker.run_id == ahead.run_id
    run = client.get_run(ahead.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["lapa.job"] == "demo-laq"


def test_a_run_whose_job_was_refused_is_closed(work: Path):
    config = TrackingConfig(uri=f"sqlite:///{work / 'mlflow.db'}")
    ahead = announce(config, work)
    withdraw_run(config, work_url=str(work), run_id=ahead.run_id)
    assert open_client(str(config.uri)).get_run(ahead.run_id).info.status == "KILLED"


def test_a_run_whose_stage_has_started_is_left_to_the_stage(work: Path):
    config = TrackingConfig(uri=f"sqlite:///{work / 'mlflow.db'}")
    ahead = announce(config, work)
    client = open_client(str(config.uri))
    client.update_run(ahead.run_id, status="RUNNING")
    withdraw_run(config, work_url=str(work), run_id=ahead.run_id)
    assert client.get_run(ahead.run_id).info.status == "RUNNING"


def test_a_server_that_is_away_is_one_clear_error(work: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        announce(TrackingConfig(uri="http://127.0.0.1:9"), work)
