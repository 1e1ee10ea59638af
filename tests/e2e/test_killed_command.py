"""`kill -9` of `lapactl run`: its stage saves and ends; the same command, given at once, waits for it and goes on."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.distributed import rank_environment
from tests.e2e.programs import (
    STEPS,
    TIMEOUT_SECONDS,
    ZERO3,
    copy_before,
    is_complete,
    losses_of,
    result_of,
    tracked_runs,
)
from tests.e2e.test_ranks import TOLERANCE

HELD_AT = 8
COMMAND = f"""
import sys
from lapactl import alone, chain
from lapactl.main import app
program, command_of = sys.argv.pop(1), chain.command_of
def command_of_program(*words, **settings):
    *start, _m, _lapa, stage, file = command_of(*words, **settings)
    return [*start, program, stage, file]
chain.command_of, alone.LOCK_SECONDS = command_of_program, {TIMEOUT_SECONDS}
app()
"""
"""`lapactl` that runs its stages by a script, and waits for others however slow the machine is."""
STAGE = f"""
import atexit, os, pathlib, runpy, time
from lapa.tracking import progress
here, report = pathlib.Path(__file__).parent, progress.report_progress
def note(what):
    with (here / "life").open("a") as life:
        life.write(what + "\\n")
def report_and_wait(*words, **numbers):
    report(*words, **numbers)
    if numbers.get("step") == {HELD_AT}:
        note("held")
        while (here / "hold").exists():
            time.sleep(0.01)
progress.report_progress = report_and_wait
if os.environ.get("RANK", "0") == "0":
    note("begins")
    atexit.register(note, "ends")
runpy.run_module("lapa", run_name="__main__", alter_sys=True)
"""
"""`python -m lapa` that notes its life beside the script, and waits after an update for as long as a file is there."""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Path]:
    """While this file is there, stages wait."""
    file = tmp_path / "hold"
    file.touch()
    yield file
    file.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize(("nproc", "settings"), [(1, ()), (2, ZERO3)])
def test_the_stage_of_a_killed_command_saves_and_the_same_command_waits_for_it_and_goes_on(
    nproc: int, settings: Sequence[str], finished_run: Path, store: Path, hold: Path
):
    work = copy_before(finished_run, hold.with_name("work"), "laq", store)
    life, log = hold.with_name("life"), work / "logs" / "tiny" / "laq.log"
    command = ["run", "laq", "--config", str(work / "run.yaml"), "--work", str(work), "--nproc", str(nproc)]
    command += [f"--set={setting}" for setting in settings]

    with started(hold.with_name("first"), command) as first:
        wait_until("held", life, first)
        first.kill()
        assert first.wait() == -signal.SIGKILL
    with started(hold.with_name("second"), command) as second:
        wait_until("waiting for what still trains in", hold.with_name("second"), second)
        wait_until("event=stop-requested signal=SIGTERM", log, second)
        assert not is_complete(work, "laq") and text_of(life).split() == ["begins", "held"], "nobody else writes"
        hold.unlink()
        assert second.wait(TIMEOUT_SECONDS) == 0, text_of(hold.with_name("second"))

    assert text_of(life).split() == ["begins", "held", "ends", "begins", "ends"], "one after the other"
    resumed = re.search(r"event=resumed step=(\d+)", text_of(log))
    assert resumed and int(resumed[1]) in (HELD_AT, HELD_AT + 1), "the step that was going on is saved"
    assert list(losses_of(work, "laq")) == list(range(1, STEPS + 1))
    assert losses_of(work, "laq") == pytest.approx(losses_of(finished_run, "laq"), rel=TOLERANCE)
    assert tracked_runs(work, "laq") == ["FINISHED"], "two starts are one run"
    if nproc == 1:  # two ranks add up in another order
        result, undisturbed = result_of(work, "laq"), result_of(finished_run, "laq")
        assert result.outputs["model"].digest == undisturbed.outputs["model"].digest
        assert result.metrics == undisturbed.metrics


@contextmanager
def started(said: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """`lapactl` with what it says in a file; killed at the end, if it still runs."""
    stage = said.with_name("stage.py")
    stage.write_text(STAGE)
    with said.open("wb") as sink:
        program = [sys.executable, "-c", COMMAND, str(stage), *command]
        process = subprocess.Popen(program, env=rank_environment(), stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(words: str, file: Path, running: subprocess.Popen[bytes]) -> None:
    """Until a file holds the words; a program that has ended no longer makes that come true."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while words not in text_of(file):
        assert running.poll() is None and time.monotonic() < deadline, f"no {words!r} in:\n{text_of(file)}"
        time.sleep(0.02)


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""
