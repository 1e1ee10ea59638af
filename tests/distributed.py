"""Running a script on several ranks of this machine, over gloo."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def run_ranks(
    script: Path,
    args: Sequence[str] = (),
    nproc: int = 2,
    *,
    timeout_seconds: float = 600,
    env: Mapping[str, str] | None = None,
) -> str:
    """Launch a script under torchrun on CPU ranks; its output (stdout and stderr together).

    Fails with the output when any rank fails.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(nproc)]
    finished = subprocess.run(
        [*launcher, str(script), *args],
        env=rank_environment(env),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, f"exit code {finished.returncode}\n{output}"
    return output


def rank_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a training subprocess: the CPU, one thread, the code of this checkout."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])
    settings = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return dict(os.environ) | settings | dict(extra or {})
