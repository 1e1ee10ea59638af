"""A training stage that was killed, then asked to stop, then left alone gives what an undisturbed one gives."""

import random
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.programs import (
    STEPS,
    copy_before,
    has_checkpoint,
    is_complete,
    last_step,
    made,
    numbers_of,
    result_of,
    stopped,
    tracked_runs,
)


@pytest.mark.parametrize(
    "name", ["laq", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pretrain", "finetune"))]
)
def test_a_killed_and_a_terminated_stage_end_like_an_undisturbed_one(
    name: str, finished_run: Path, store: Path, tmp_path: Path
):
    work = copy_before(finished_run, tmp_path / "work", name, store)
    dice = random.Random(f"kill {name}")
    killed_at, stopped_at = dice.randrange(6, 11), dice.randrange(13, 18)

    killed = stopped(
        work, name, signal.SIGKILL, lambda events: last_step(events) >= killed_at and has_checkpoint(str(work), name)
    )
    assert killed.code == -signal.SIGKILL
    assert not is_complete(work, name)

    terminated = stopped(work, name, signal.SIGTERM, lambda events: last_step(events) >= stopped_at)
    assert terminated.code == 75, terminated.said
    assert "event=resumed step=" in terminated.said
    assert re.search(rf"{name}: goes on from step \d+ of {STEPS}$", terminated.said, re.MULTILINE)
    assert not is_complete(work, name)
    assert last_saved_step(work, name) in (stopped_at, stopped_at + 1), "the step that was going on is saved"

    result, undisturbed = made(work, name), result_of(finished_run, name)
    assert result.outputs["model"].digest == undisturbed.outputs["model"].digest
    assert result.metrics == undisturbed.metrics
    for part in ("train/", "validation/"):
        assert numbers_of(work, name, part) == numbers_of(finished_run, name, part)
    assert [step for step, _ in numbers_of(work, name, "train/total")["train/total"]] == list(range(1, STEPS + 1))
    assert tracked_runs(work, name) == ["FINISHED"], "three starts are one run"


def last_saved_step(work: Path, name: str) -> int:
    (file,) = work.glob(f"{name}-*/checkpoints/last")
    assert (file.parent / file.read_text().strip() / "manifest.json").exists()
    return int(file.read_text().split("-")[1])
