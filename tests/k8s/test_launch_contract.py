"""What a pod runs does what the manifests promise: real launchers, with the variables that the operator injects."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from job_specs import SMALL_NODE, job_spec
from pytorchjob_rules import worker_environment

from lapa_k8s.rendering.command import command
from lapa_k8s.rendering.manifests import render
from lapa_k8s.rendering.paths import HOME, SCRATCH

PROGRAM = """
import os, sys
print(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", flush=True)
sys.exit(int(os.environ["END_WITH"]))
"""


def injected(job: dict[str, Any], *, port: int) -> dict[str, str]:
    """The operator's variables, for pods that share this machine's address."""
    found = {item["name"]: item["value"] for item in worker_environment(job)}
    # In-place restarts would only repeat the end.
    return {**found, "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}", "PET_MAX_RESTARTS": "0"}


def run_job(folder: Path, *, end_with: int) -> list[tuple[int, str]]:
    """Exit code and log of each of two nodes."""
    job = render(job_spec(nodes=2, processes_per_node=1, node=SMALL_NODE)).job
    container = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = folder / "program.py"
    program.write_text(PROGRAM)
    variables = {item["name"]: item["value"] for item in container["env"]}
    running = []
    for node in range(2):
        own = folder / f"node{node}"
        own.mkdir()
        mapped = {name: value.replace(SCRATCH, str(own)).replace(HOME, str(own)) for name, value in variables.items()}
        launcher = [sys.executable, *container["command"][1:3], str(program)]
        environment = {**os.environ, **mapped, **injected(job, port=port), "END_WITH": str(end_with)}
        running.append(
            subprocess.Popen(launcher, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    logs = [process.communicate(timeout=120)[0] for process in running]
    return [(process.returncode, log) for process, log in zip(running, logs, strict=True)]


def test_the_container_starts_the_stage_through_the_launcher():
    assert command(job_spec()) == ["python", "-m", "lapa.launch", "-m", "lapa", "pretrain", "/etc/lapa/run.yaml"]


@pytest.mark.parametrize("code", [0, 75, 5])
def test_pods_end_with_the_code_of_their_ranks_and_every_line_says_its_rank(tmp_path: Path, code: int):
    nodes = run_job(tmp_path, end_with=code)
    assert [returned for returned, _ in nodes] == [code, code]
    lines = [line for _, log in nodes for line in log.splitlines()]
    assert {"[rank0]: rank 0 of 2", "[rank1]: rank 1 of 2"} <= set(lines)
