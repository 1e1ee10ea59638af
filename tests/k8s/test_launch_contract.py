"""What a pod runs does what the manifests promise: real launchers, with the variables that the operator injects."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from job_specs import SMALL_NODE, job_spec
from pytorchjob_rules import worker_environment

from lapa_k8s.rendering.command import command
from lapa_k8s.rendering.manifests import render
from lapa_k8s.rendering.paths import HOME, SCRATCH

PROGRAM = """
import os, pathlib, sys, time
print(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", flush=True)
while os.environ["NODE"] == "0" and not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
sys.exit(int(os.environ["END_WITH"]))
"""

WAITING_PROGRAM = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / f"{os.environ['NODE']}.{os.getpid()}").touch()
while not (folder / "go").exists():
    time.sleep(0.1)
"""
PATIENCE_SECONDS = 900


def injected(job: dict[str, Any], *, port: int) -> dict[str, str]:
    """The operator's variables, for pods that share this machine's address."""
    found = {item["name"]: item["value"] for item in worker_environment(job)}
    # In-place restarts would only repeat the end.
    return {**found, "PET_RDZV_ENDPOINT": f"127.0.0.1:{port}", "PET_MAX_RESTARTS": "0"}


class Nodes:
    """Two nodes of a rendered job, as launchers that run a program in place of the stage."""

    def __init__(self, folder: Path, program: str, *arguments: str, **variables: str) -> None:
        self._folder = folder
        self._job = render(job_spec(nodes=2, processes_per_node=1, node=SMALL_NODE)).job
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.variables = injected(self._job, port=free.getsockname()[1]) | variables
        (folder / "program.py").write_text(program)
        self._program = [str(folder / "program.py"), *arguments]

    def start(self, node: int, **variables: str) -> "subprocess.Popen[str]":
        container = self._job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
        own = self._folder / f"node{node}"
        own.mkdir(exist_ok=True)
        declared = {item["name"]: item["value"] for item in container["env"]}
        mapped = {name: value.replace(SCRATCH, str(own)).replace(HOME, str(own)) for name, value in declared.items()}
        return subprocess.Popen(
            [sys.executable, *container["command"][1:3], *self._program],
            env={**os.environ, **mapped, **self.variables, **variables, "NODE": str(node)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def run_job(folder: Path, *, end_with: int) -> list[tuple[int, str]]:
    """Exit code and log of each of two nodes, of which the one that holds the store fails last."""
    go = folder / "go"
    nodes = Nodes(folder, PROGRAM, str(go), END_WITH=str(end_with))
    conf = nodes.variables["PET_RDZV_CONF"] + ",is_host="
    host = nodes.start(0, PET_RDZV_CONF=conf + "true")
    other = nodes.start(1, PET_RDZV_CONF=conf + "false")
    if end_with == 0:
        go.touch()  # who succeeds waits for its peers
    said = other.communicate(timeout=600)[0]
    go.touch()
    words = host.communicate(timeout=600)[0]
    return [(host.returncode, words), (other.returncode, said)]


def test_the_container_starts_the_stage_through_the_launcher():
    assert command(job_spec()) == ["python", "-m", "lapa.launch", "-m", "lapa", "pretrain", "/etc/lapa/run.yaml"]


@pytest.mark.parametrize("code", [0, 75, pytest.param(5, marks=pytest.mark.slow)])
def test_pods_end_with_the_code_of_their_ranks_and_every_line_says_its_rank(tmp_path: Path, code: int):
    nodes = run_job(tmp_path, end_with=code)
    assert [returned for returned, _ in nodes] == [code, code]
    lines = [line for _, log in nodes for line in log.splitlines()]
    assert {"[rank0]: rank 0 of 2", "[rank1]: rank 1 of 2"} <= set(lines)


@pytest.mark.slow
def test_a_node_that_was_lost_comes_back_and_the_other_one_goes_on_with_it(tmp_path: Path):
    marks = tmp_path / "marks"
    marks.mkdir()
    nodes = Nodes(tmp_path, WAITING_PROGRAM, str(marks))
    # The node that holds the store stays; c10d takes any address here for its own, and would race for it.
    conf = nodes.variables["PET_RDZV_CONF"] + ",keep_alive_interval=1,keep_alive_max_attempt=3,is_host="
    first = nodes.start(0, PET_RDZV_CONF=conf + "true")
    lost = nodes.start(1, PET_RDZV_CONF=conf + "false")
    lives = lives_in(marks, 2, first)
    os.kill(lost.pid, signal.SIGKILL)
    os.kill(lives[1][0], signal.SIGKILL)
    back = nodes.start(1, PET_RDZV_CONF=conf + "false")
    lives_in(marks, 4, first)
    (marks / "go").touch()
    said = [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in (first, back)]
    assert [process.returncode for process in (first, back)] == [0, 0], said


def lives_in(marks: Path, count: int, launcher: "subprocess.Popen[str]") -> dict[int, list[int]]:
    """Process ids of the ranks so far, by node, once there are so many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found := [path.name.split(".") for path in marks.iterdir()]) < count:
        assert launcher.poll() is None, launcher.communicate()[0]
        assert time.monotonic() < deadline, f"the nodes do not meet: {found}"
        time.sleep(0.1)
    return {node: [int(pid) for own, pid in found if int(own) == node] for node in range(2)}


def test_a_node_that_is_asked_to_go_while_it_waits_for_its_peers_goes(tmp_path: Path):
    """The first process of a container ignores signals that it has no handler for."""
    nodes = Nodes(tmp_path, PROGRAM, str(tmp_path / "go"), END_WITH="0")
    alone = nodes.start(0)
    host, _, port = nodes.variables["PET_RDZV_ENDPOINT"].partition(":")
    deadline = time.monotonic() + PATIENCE_SECONDS
    with socket.socket() as probe:
        while probe.connect_ex((host, int(port))) != 0:
            assert alone.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    alone.send_signal(signal.SIGTERM)
    said, _ = alone.communicate(timeout=PATIENCE_SECONDS)
    assert alone.returncode == 75, said
