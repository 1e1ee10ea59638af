"""Worker processes: how many, and what happens when one of them, or their parent, dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lapa.data.pool import worker_pool
from lapa.errors import DataError

PARENT = """
import os, signal, sys, time
from lapa.data.pool import worker_pool

if __name__ == "__main__":
    with worker_pool(1, work="a test", remedy="") as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_dies_is_told_with_what_to_do():
    with (
        pytest.raises(DataError, match=r"a process of baking died.*Bake less at once\."),
        worker_pool(1, work="baking", remedy="Bake less at once.") as pool,
    ):
        pool.submit(os._exit, 9).result()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_pool_waits_for_nobody(interruption: type[BaseException]):
    started, workers = time.monotonic(), []

    def work() -> None:
        with worker_pool(1, work="a test", remedy="") as pool:
            workers.append(pool.submit(os.getpid).result())
            pool.map(time.sleep, [600, 600])
            raise interruption

    with pytest.raises(interruption):
        work()
    assert not is_running(workers[0])
    assert time.monotonic() - started < 500


def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert parent.wait(timeout=600) == -signal.SIGKILL
    deadline = time.monotonic() + 600
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(worker)


def is_running(pid: int) -> bool:
    """Whether the process is there; one that has ended but was not collected is not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
