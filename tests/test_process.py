"""How a rank ends: with its own exit code, everything written, and no interpreter to tear down; cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lapa.process import available_cores, end_process

ENDING = """
import atexit, logging, pathlib, sys, threading
from lapa.process import end_process
atexit.register(pathlib.Path(sys.argv[1]).touch)
threading.Thread(target=threading.Event().wait).start()  # a tear-down would wait for this one for ever
print("written", end="")
end_process(75)
"""


def test_a_rank_keeps_its_exit_code_and_what_it_wrote_though_a_thread_of_its_libraries_lives_on(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    environment = {**os.environ, "WORLD_SIZE": "2"}
    ended = subprocess.run(
        [sys.executable, "-c", ENDING, str(closed)],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (75, "written", "")
    assert closed.exists()


def test_a_process_alone_ends_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit) as ended:
        end_process(3)
    assert ended.value.code == 3


def test_cores_are_counted_where_the_system_tells_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()
