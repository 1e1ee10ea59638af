"""Ingest, label and evaluate that were killed end like undisturbed ones, and what was whole is not made again."""

import random
import shutil
import signal
from pathlib import Path
from typing import Any

from lapa.config.load import load_run
from lapa.errors import RESTART_EXIT_CODE
from lapa.stages import evaluate
from tests.data.sources import write_clips
from tests.e2e.programs import copy_before, is_complete, made, result_of, stopped, tiny_run, tracked_runs, write_run

CLIPS, CLIPS_PER_SHARD = 30, 2


def test_a_killed_ingest_ends_like_an_undisturbed_one(store: Path, tmp_path: Path):
    write_clips(tmp_path / "clips", CLIPS)
    undisturbed, work = (clips_run(tmp_path / name, tmp_path / "clips", store) for name in ("undisturbed", "killed"))
    expected = made(undisturbed, "ingest", "videos.workers=1").outputs["videos"]

    shards_seen = random.Random("kill ingest").randrange(2, 7)
    killed = stopped(work, "ingest", signal.SIGKILL, lambda events: shards_of(events) >= shards_seen)
    assert killed.code == -signal.SIGKILL
    assert not is_complete(work, "ingest")
    (dataset,) = work.glob("datasets/*/")
    assert not (dataset / "dataset.json").exists(), "nothing half-made looks complete"
    kept = {path: path.stat().st_mtime_ns for path in dataset.glob("_units/*.json")}
    assert shards_seen <= len(kept) < CLIPS // CLIPS_PER_SHARD

    videos = made(work, "ingest").outputs["videos"]
    assert videos.digest == expected.digest
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "whole shards are kept"
    for file in Path(expected.url).rglob("*.tar"):
        assert (Path(videos.url) / "shards" / file.name).read_bytes() == file.read_bytes()


def test_a_killed_label_stage_ends_like_an_undisturbed_one(finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", "label", store)
    shards_seen = random.Random("kill label").randrange(1, 4)
    killed = stopped(work, "label", signal.SIGKILL, lambda events: shards_of(events) >= shards_seen)
    assert killed.code == -signal.SIGKILL
    assert not is_complete(work, "label")
    assert not list(work.glob("label-*/labels/labels.json")), "nothing half-made looks complete"
    kept = {path: path.stat().st_mtime_ns for path in work.glob("label-*/labels/*.parquet")}
    assert len(kept) >= shards_seen

    result, undisturbed = made(work, "label"), result_of(finished_run, "label")
    assert result.outputs["labels"].digest == undisturbed.outputs["labels"].digest
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "whole shards are kept"


def test_a_label_stage_that_is_asked_to_stop_says_to_run_it_again(finished_run: Path, store: Path, tmp_path: Path):
    work = copy_before(finished_run, tmp_path / "work", "label", store)
    ended = stopped(work, "label", signal.SIGTERM, lambda events: shards_of(events) >= 1)
    assert ended.code == RESTART_EXIT_CODE, ended.said
    assert "Traceback" not in ended.said
    assert not is_complete(work, "label")
    assert tracked_runs(work, "label") == ["KILLED"]


def test_a_killed_evaluation_ends_with_the_same_numbers(finished_run: Path, store: Path, tmp_path: Path):
    work, undisturbed = (copy_before(finished_run, tmp_path / name, "evaluate", store) for name in ("work", "whole"))
    killed = stopped(work, "evaluate", signal.SIGKILL, lambda events: "held-out actions" in phases_of(events))
    assert killed.code == -signal.SIGKILL
    assert not is_complete(work, "evaluate")
    evaluate.main(load_run(str(undisturbed / "run.yaml"), [f"work_url={undisturbed}"]))
    assert made(work, "evaluate").metrics == result_of(undisturbed, "evaluate").metrics


def clips_run(work: Path, clips: Path, store: Path) -> Path:
    settings = tiny_run(work, "unused", "unused") | {"robot": None, "pretrain": None, "finetune": None}
    settings["videos"] = {
        "kind": "ingest", "source": {"kind": "videos", "url": str(clips)}, "image_size": 32,
        "episodes_per_shard": CLIPS_PER_SHARD, "workers": 2,
    }  # fmt: skip
    write_run(work, settings)
    shutil.copyfile(store, work / "mlflow.db")
    return work


def shards_of(events: list[dict[str, Any]]) -> int:
    """Shards that the stage has told of."""
    return sum("shard" in event.get("message", "") or event["phase"] == "label" for event in events)


def phases_of(events: list[dict[str, Any]]) -> set[str]:
    return {event["phase"] for event in events}
