"""A launch of several ranks ends with their own exit code, where torchrun alone would end with 1."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from lapa import launch
from lapa.errors import RESTART_EXIT_CODE
from lapa.process import own_program
from tests.distributed import rank_environment

RANK = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path(sys.argv[1], "ready-" + __import__("os").environ["RANK"]).touch()
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((75, 75), RESTART_EXIT_CODE),
        ((75, -15), RESTART_EXIT_CODE),  # torchrun stops the others once one has ended
        ((4, -15), 4),
        ((5, 75), 5),
        ((-9, -15), 137),
    ],
)
def test_the_code_is_that_of_the_first_rank_to_fail(monkeypatch, codes: tuple[int, int], expected: int) -> None:
    def failing(_arguments: object) -> None:
        failures = {rank: ProcessFailure(rank, 1, code, "<N/A>") for rank, code in enumerate(codes)}
        for rank, failure in failures.items():
            failure.timestamp = rank
        raise ChildFailedError("stage", failures)

    monkeypatch.setattr(launch, "torchrun", failing)
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "30")
    assert launch.main([]) == expected


STARTER = """
import os, subprocess, sys
subprocess.Popen(sys.argv[1:], env={**os.environ, "LAPA_STARTER": str(os.getpid())}).wait()
"""


def test_ranks_save_and_end_when_the_program_that_started_the_launch_is_killed(tmp_path: Path) -> None:
    script, saved = tmp_path / "rank.py", tmp_path / "saved"
    script.write_text(RANK.replace("sys.exit(75)", f"(pathlib.Path({str(saved)!r}).touch(), sys.exit(75))"))
    launched = [sys.executable, "-m", "lapa.launch", "--standalone", "--nproc-per-node", "1", str(script)]
    command = [sys.executable, "-c", STARTER, *launched, str(tmp_path)]
    starter = subprocess.Popen(command, env=rank_environment(), stderr=subprocess.DEVNULL)
    _wait_for(tmp_path / "ready-0")
    starter.kill()
    starter.wait()
    _wait_for(saved)


def _wait_for(file: Path) -> None:
    for _ in range(6000):
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file.name} did not appear")


def test_sigterm_lets_the_ranks_save_and_asks_for_a_restart(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    command = [sys.executable, "-m", "lapa.launch", "--standalone", "--nproc-per-node", "2", str(script), str(tmp_path)]
    process = subprocess.Popen(command, env=rank_environment(), stderr=subprocess.PIPE, text=True)
    try:
        while len(list(tmp_path.glob("ready-*"))) < 2 and process.poll() is None:
            time.sleep(0.1)
        process.terminate()
        _, said = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == RESTART_EXIT_CODE, said


def test_ranks_run_what_is_installed_wherever_they_are_started(tmp_path: Path) -> None:
    foreign = tmp_path / "lapa"
    foreign.mkdir()
    for name in ("__init__.py", "__main__.py"):
        (foreign / name).write_text("raise SystemExit('foreign code')")
    command = own_program("lapa.launch", "--standalone", "--nproc-per-node", "1", "-m", "lapa", "--help")
    done = subprocess.run(command, cwd=tmp_path, env=rank_environment(), capture_output=True, text=True, check=False)
    assert "foreign code" not in done.stderr
    assert "usage: python -m lapa" in done.stdout
