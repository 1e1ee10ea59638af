"""The tracker against a real MLflow store in a file."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa.tracking.__main__ import deliver
from lapa.tracking.delivery import Delivery
from lapa.tracking.mlflow_client import RunWriter, artifact_url, open_client, tracking_uri
from lapa.tracking.stage_log import StageLog, read_history
from lapa.tracking.tracker import NullTracker, Tracker, open_tracker

TAGS = {"lapa.fingerprint": "abc123"}
GENEROUS_SECONDS = 300.0


def start(work: Path, **changes: Any) -> Tracker:
    arguments: dict[str, Any] = {
        "store": work,
        "run_name": "toy",
        "stage": "laq",
        "tags": TAGS,
        "journal": work / "laq" / "journal",
        "folder": work / "laq",
        "open_seconds": GENEROUS_SECONDS,
        "flush_seconds": GENEROUS_SECONDS,
        "system_metrics_seconds": None,
    }
    return open_tracker(changes.pop("config", TrackingConfig()), **(arguments | changes))


def client_of(work: Path) -> Any:
    return open_client(f"sqlite:///{work}/mlflow.db")


def history(client: Any, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


def test_a_run_holds_everything_that_was_logged(work: Path, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("a file")
    tracker = start(work)
    tracker.log_params({"batch_size": 64, "optimizer": {"kind": "adamw"}, "long": "x" * 9000})
    for step in (20, 40):
        tracker.log_metrics({"loss": 1 / step, "perplexity": 4.0}, step)
    tracker.log_text("name: toy\n", "config/run.yaml")
    tracker.log_image(np.full((8, 8, 3), 200, np.uint8), "code-atlas")
    tracker.log_file(note, "notes")
    tracker.log_input("videos", "s3://bucket/videos", "f" * 64)
    tracker.set_tags({"lapa.verdict": "healthy"})
    tracker.finish("FINISHED")

    client = client_of(work)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "toy-laq"
    assert run.data.tags["lapa.verdict"] == "healthy"
    assert run.data.tags["lapa.stage"] == "laq"
    assert run.data.params["batch_size"] == "64"
    assert json.loads(run.data.params["optimizer"]) == {"kind": "adamw"}
    assert len(run.data.params["long"]) == 6000
    assert history(client, tracker.run_id, "loss") == [(20, 1 / 20), (40, 1 / 40)]
    (given,) = run.inputs.dataset_inputs
    assert json.loads(given.dataset.source) == {"url": "s3://bucket/videos", "revision": "f" * 64}
    assert {a.path for a in client.list_artifacts(tracker.run_id)} == {"config", "notes", "pictures"}
    assert (work / "laq" / "pictures" / "code-atlas.png").read_bytes().startswith(b"\x89PNG")
    assert read_history(str(work / "laq"))["loss"] == [(20, 1 / 20), (40, 1 / 40)]


def test_a_restarted_stage_continues_its_run(work: Path) -> None:
    first = start(work)
    first.log_params({"batch_size": 64})
    first.log_metrics({"loss": 2.0}, 20)
    first.finish("KILLED")

    again = start(work)
    assert again.run_id == first.run_id
    again.log_params({"batch_size": 32})
    again.log_metrics({"loss": 1.0}, 40)
    again.finish("FINISHED")

    client = client_of(work)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "64"
    assert history(client, first.run_id, "loss") == [(20, 2.0), (40, 1.0)]


def test_a_stage_that_lost_its_journal_finds_its_run_by_fingerprint_and_work_folder(work: Path) -> None:
    first = start(work)
    first.finish("KILLED")
    again = start(work, journal=work / "another-pod")
    again.finish()
    other = start(work, journal=work / "third", tags={"lapa.fingerprint": "other"})
    other.finish()
    assert again.run_id == first.run_id
    assert other.run_id != first.run_id


def test_a_given_run_id_is_continued(work: Path) -> None:
    client = client_of(work)
    experiment = client.create_experiment("lapa")
    submitted = client.create_run(experiment).info.run_id
    tracker = start(work, run_id=submitted)
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish()
    assert tracker.run_id == submitted
    assert history(client, submitted, "loss") == [(1, 1.0)]


def test_logging_never_waits_for_the_server(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers, waited_for = threading.Event(), threading.Event(), []
    take = RunWriter.take

    def late(writer: RunWriter, entries: Any) -> None:
        asked.set()
        if not answers.wait(GENEROUS_SECONDS):
            waited_for.append(entries)
        take(writer, entries)

    tracker = start(work)  # which does wait for it, some time
    monkeypatch.setattr(RunWriter, "take", late)
    tracker.log_metrics({"loss": 0.0}, 0)
    assert asked.wait(GENEROUS_SECONDS)
    for step in range(1, 50):
        tracker.log_metrics({"loss": float(step)}, step)
    tracker.log_image(np.zeros((4, 4, 3), np.uint8), "meanwhile")
    tracker.log_params({"seed": 0})
    answers.set()  # not before all of them returned
    tracker.finish("FINISHED")
    assert not waited_for
    assert history(client_of(work), tracker.run_id, "loss") == [(step, float(step)) for step in range(50)]


def test_other_ranks_log_nothing(work: Path) -> None:
    assert isinstance(start(work, rank=3), NullTracker)
    assert not (work / "laq").exists()


def test_with_tracking_off_numbers_and_pictures_stay_in_the_stages_folder_and_no_store_is_made(tmp_path: Path) -> None:
    tracker = start(tmp_path, config=TrackingConfig(enabled=False))
    tracker.log_params({"seed": 1})
    tracker.log_metrics({"loss": 0.5}, step=20)
    tracker.log_image(np.zeros((4, 4, 3), np.uint8), "atlas")
    tracker.finish()
    assert read_history(str(tmp_path / "laq")) == {"loss": [(20, 0.5)]}
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "laq/metrics.jsonl",
        "laq/pictures/atlas.png",
    ]


def test_nothing_is_lost_when_the_server_stays_away_until_after_the_run(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = TrackingConfig(uri="http://127.0.0.1:9")
    others = set(threading.enumerate())
    waited, flush = [], Delivery.flush
    monkeypatch.setattr(
        Delivery, "flush", lambda self, timeout_seconds: waited.append(timeout_seconds) or flush(self, timeout_seconds)
    )
    tracker = start(work, config=nobody, open_seconds=0.2, flush_seconds=0.2)
    tracker.log_metrics({"loss": 0.5}, 20)
    tracker.log_text("hello", "note.txt")
    tracker.finish("FINISHED")
    assert waited == [0.2], "the server has as long as it was given, and not the 60 s of the default"
    assert tracker.run_id == ""
    for thread in set(threading.enumerate()) - others:
        if thread.name == "lapa-tracking":
            thread.join(GENEROUS_SECONDS)  # it may be at its last attempt, and finds the server that is back below

    journal = work / "laq" / "journal"
    with pytest.raises(TrackingError, match="still away"):
        deliver(journal)
    back = TrackingConfig(uri=f"sqlite:///{work}/mlflow.db")
    moved = {"uri": back.uri, "artifact_url": artifact_url(back, str(work))}
    (journal / "run.json").write_text(json.dumps(json.loads((journal / "run.json").read_text()) | moved))
    assert deliver(journal) == 4
    client = client_of(work)
    run_id = json.loads((journal / "run.json").read_text())["run_id"]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert history(client, run_id, "loss") == [(20, 0.5)]


def test_the_same_entries_told_twice_leave_the_same_run(work: Path) -> None:
    tracker = start(work)
    tracker.log_metrics({"loss": 0.5}, 20)
    tracker.finish()
    delivered = work / "laq" / "journal" / "delivered.json"
    delivered.write_text(json.dumps({"number": 0}))  # as if the process died before it noted the delivery
    again = start(work)
    again.finish()
    assert history(client_of(work), tracker.run_id, "loss") == [(20, 0.5)]


def test_machine_metrics_are_sampled(work: Path) -> None:
    tracker = start(work, system_metrics_seconds=0.1)
    (entries,) = (work / "laq" / "journal").glob("entries-*.jsonl")
    deadline = time.monotonic() + GENEROUS_SECONDS
    while "system/" not in entries.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    tracker.finish()
    names = client_of(work).get_run(tracker.run_id).data.metrics
    assert {"system/cpu_percent", "system/memory_gib", "system/process_memory_gib"} <= set(names)


def test_an_unusable_address_is_an_error_with_a_remedy(work: Path) -> None:
    with pytest.raises(TrackingError, match="Use http"):
        start(work, config=TrackingConfig(uri="gopher://x"))


def test_the_environment_names_the_server_when_the_config_does_not(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri(TrackingConfig(), str(work)) == "http://mlflow:5000"
    assert tracking_uri(TrackingConfig(uri="http://other"), str(work)) == "http://other"


def test_artifacts_of_a_sqlite_store_lie_beside_it_and_never_where_the_program_was_started(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, store = tmp_path / "elsewhere", tmp_path / "store"
    elsewhere.mkdir()
    store.mkdir()
    (work / "mlflow.db").rename(store / "tracking.db")
    monkeypatch.chdir(elsewhere)
    tracker = start(work, config=TrackingConfig(uri=f"sqlite:///{store}/tracking.db"))
    tracker.log_text("hello", "note.txt")
    tracker.finish()
    assert [path.name for path in (store / "mlflow-artifacts").rglob("*.txt")] == ["note.txt"]
    assert list(elsewhere.iterdir()) == []


def test_a_server_and_the_config_choose_the_place_of_artifacts_themselves(tmp_path: Path) -> None:
    work = str(tmp_path)
    assert artifact_url(TrackingConfig(uri="http://mlflow:5000"), work) is None
    assert artifact_url(TrackingConfig(artifact_url="s3://bucket/mlflow"), work) == "s3://bucket/mlflow"


def test_steps_repeated_after_a_resume_appear_once(tmp_path: Path) -> None:
    url = str(tmp_path / "stage")
    first = StageLog(url)
    for step in range(0, 100, 10):
        first.metrics({"loss": 1.0}, step)
    resumed = StageLog(url)
    for step in range(60, 120, 10):
        resumed.metrics({"loss": 2.0}, step)
        resumed.metrics({"validation/loss": 3.0}, step)
    loss = read_history(url)["loss"]
    assert [step for step, _ in loss] == list(range(0, 120, 10))
    assert dict(loss)[50] == 1.0 and dict(loss)[60] == 2.0


def test_a_stage_folder_in_an_object_store_gets_its_metrics_too() -> None:
    url = "memory://bucket/stage"
    log = StageLog(url)
    log.metrics({"loss": 1.0, "bad": float("nan")}, 10)
    log.flush(force=True)
    history = read_history(url)
    assert history["loss"] == [(10, 1.0)]
    assert np.isnan(history["bad"][0][1])
