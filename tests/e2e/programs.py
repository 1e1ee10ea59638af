"""A run small enough to train in seconds, and its stages as the processes they are in production."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lapa import files
from lapa.stages.results import StageResult, read_result
from lapa.tracking.progress import PROGRESS_VARIABLE
from lapa.tracking.stage_log import read_history
from tests.distributed import rank_environment

STEPS = 24
TIMEOUT_SECONDS = 900
"""Of one process; it takes seconds where nothing else runs."""
RANKS = ("-m", "lapa.launch", "--standalone", "--nproc-per-node", "2")
ZERO3 = ("engine.kind=deepspeed", "engine.zero_stage=3", "engine.device=cpu", "engine.bucket_bytes=20000")
PACED = """
import os, runpy, sys
from lapa.tracking import progress
pace, report = int(sys.argv.pop(1)), progress.report_progress
def report_and_wait(*words, **numbers):
    report(*words, **numbers)
    os.read(pace, 1)
progress.report_progress = report_and_wait
runpy.run_module("lapa", run_name="__main__", alter_sys=True)
"""
"""`python -m lapa`, waiting after every event for a byte in a pipe, or for the pipe's end."""


class Ended(NamedTuple):
    """How a stage's process ended."""

    code: int
    said: str
    """Its stderr."""

    @property
    def last_words(self) -> str:
        return self.said.strip().splitlines()[-1]


def tiny_run(work: Path, videos: str, robot: str) -> dict[str, Any]:
    """The smoke preset on two ready datasets, shrunk until a training stage takes less than its imports."""
    fit = {
        "steps": STEPS, "batch_size": 16, "log_every": 1, "validate_every": 12, "validation_batches": 2,
        "checkpoint_every": 5,
    }  # fmt: skip
    stream = {"lanes": 4, "shuffle_samples": 64, "validation_share": 0.25}
    model = {"architecture": {"width": 8}, "quantizer": {"width": 4, "revival": {"every": 7}}}
    return {
        "preset": "tabletop-smoke",
        "name": "tiny",
        "work_url": str(work),
        "videos": {"kind": "dataset", "url": videos},
        "robot": {"kind": "dataset", "url": robot},
        "laq": {"model": model, "fit": fit, "stream": stream},
        "label": {"batch_size": 8},
        "pretrain": {"backbone": {"width": 8, "hidden": 32, "keypoints": 8}, "fit": fit, "stream": stream},
        "finetune": {"fit": fit, "stream": stream},
        "evaluate": {"simulator": None},  # the robot is not the tabletop's
        "baselines": {},
    }


def write_run(work: Path, settings: Mapping[str, Any]) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    path = work / "run.yaml"
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
    return path


def stage(work: Path, name: str, *settings: str, launcher: Sequence[str] = ()) -> Ended:
    """`python -m lapa NAME work/run.yaml --set work_url=WORK …`, to its end."""
    return _end(_start(work, name, settings, (*launcher, "-m", "lapa")))


def made(work: Path, name: str, *settings: str, launcher: Sequence[str] = ()) -> StageResult:
    """The same, and the result of the stage, which must succeed."""
    ended = stage(work, name, *settings, launcher=launcher)
    assert ended.code == 0, f"{name}: exit code {ended.code}\n{ended.said}"
    return result_of(work, name)


def stopped(
    work: Path, name: str, number: signal.Signals, when: Callable[[list[dict[str, Any]]], bool], *settings: str
) -> Ended:
    """A stage that gets a signal at the event after which `when` holds for those in its progress file, however busy the
    machine: it waits at every event until that has been looked at."""
    events = work / f"{name}-progress.jsonl"
    events.unlink(missing_ok=True)
    reading, writing = os.pipe()
    process = _start(work, name, settings, ("-c", PACED, str(reading)), events, pace=reading)
    os.close(reading)
    num_let_go = 0
    while process.poll() is None:
        seen = _whole_lines(events) if events.exists() else []
        if when(seen):
            process.send_signal(number)
            break
        if len(seen) == num_let_go:
            time.sleep(0.002)
        with suppress(BrokenPipeError):  # it has ended
            num_let_go += os.write(writing, b"." * (len(seen) - num_let_go))
    os.close(writing)
    return _end(process)


def last_step(events: list[dict[str, Any]]) -> int:
    """The last update that a progress file tells of."""
    return max((event.get("step", 0) for event in events), default=0)


def has_checkpoint(work_url: str, name: str) -> bool:
    """Whether a checkpoint of a training stage is complete; where none is, the threads that write it get a moment."""
    folders = [folder for folder in files.list_names(work_url) if folder.startswith(f"{name}-")]
    found = any(files.exists(files.join(work_url, folder, "checkpoints", "last")) for folder in folders)
    if not found:
        time.sleep(0.3)
    return found


def result_of(work: Path, name: str) -> StageResult:
    (folder,) = work.glob(f"{name}-*/")
    result = read_result(str(folder))
    assert result is not None, f"{folder} holds no result"
    return result


def is_complete(work: Path, name: str) -> bool:
    return any((folder / "result.json").exists() for folder in work.glob(f"{name}-*/"))


def numbers_of(work: Path, name: str, prefix: str) -> dict[str, list[tuple[int, float]]]:
    """Numbers over time, by name, as the stage's folder keeps them."""
    (folder,) = work.glob(f"{name}-*/")
    return {key: series for key, series in read_history(str(folder)).items() if key.startswith(prefix)}


def losses_of(work: Path, name: str) -> dict[int, float]:
    return dict(numbers_of(work, name, "train/total")["train/total"])


def tracked_runs(work: Path, name: str) -> list[str]:
    """How each of the stage's MLflow runs ended."""
    with sqlite3.connect(work / "mlflow.db") as store:
        return [row[0] for row in store.execute("select status from runs where name = ?", (f"tiny-{name}",))]


def copy_before(source: Path, target: Path, name: str, store: Path) -> Path:
    """A work folder in which everything before a stage is made, and nothing from that stage on is."""
    later = ("laq", "label", "pretrain", "finetune", "evaluate")
    later = later[later.index(name) :]
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("mlflow.db*", *(f"{stage}-*" for stage in later)))
    shutil.copyfile(store, target / "mlflow.db")
    return target


def _start(
    work: Path,
    name: str,
    settings: Sequence[str],
    program: Sequence[str],
    events: Path | None = None,
    pace: int | None = None,
) -> subprocess.Popen[str]:
    changes = [f"--set={setting}" for setting in (f"work_url={work}", *settings)]
    return subprocess.Popen(
        [sys.executable, *program, name, str(work / "run.yaml"), *changes],
        env=rank_environment({PROGRESS_VARIABLE: str(events)} if events else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=work,
        pass_fds=() if pace is None else (pace,),
    )


def _end(process: subprocess.Popen[str]) -> Ended:
    try:
        said = process.communicate(timeout=TIMEOUT_SECONDS)[1]
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        raise
    return Ended(process.returncode, said)


def _whole_lines(events: Path) -> list[dict[str, Any]]:
    text = events.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
