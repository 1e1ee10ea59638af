"""What a reader of numbers is told about the machine, also where its driver is in trouble."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lapa.tracking import machine
from lapa.tracking.machine import machine_words


def with_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_equal_gpus_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_smi(tmp_path, monkeypatch, "#!/bin/sh\nprintf 'NVIDIA H100\\nNVIDIA A10\\nNVIDIA H100\\n'\n")
    monkeypatch.setattr(machine, "SMI_SECONDS", 600)
    assert machine_words().endswith(" cores, 1 x NVIDIA A10, 2 x NVIDIA H100")


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 9}, raising=False)
    assert ", 3 cores" in machine_words()


@pytest.mark.parametrize(
    "script", ["#!/bin/sh\necho NVIDIA H100\nexit 9\n", "#!/no/such/interpreter\n"], ids=["fails", "cannot be started"]
)
def test_gpus_that_nobody_tells_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    with_smi(tmp_path, monkeypatch, script)
    assert machine_words().endswith(" cores")


def test_a_driver_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Stuck(subprocess.Popen):  # type: ignore[type-arg]
        """Even killed, it does not end while somebody waits for it."""

        def communicate(self, *_: Any, timeout: float | None = None) -> Any:
            started.append(self)
            assert timeout is not None, "waited for without a limit"
            raise subprocess.TimeoutExpired(self.args, timeout)

    with_smi(tmp_path, monkeypatch, "#!/bin/sh\nexec sleep 600\n")
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", Stuck)
        assert machine_words().endswith(" cores")
    (process,) = started
    assert process.wait() < 0, "it was killed"
