"""One table of states, whoever runs the pods."""

import re
from pathlib import Path

import pytest
from cluster_objects import job, pending_pod, pod, waiting_pod

from lapa_k8s.parts import Scheduling
from lapa_k8s.records import record_of
from lapa_k8s.states import State, state_of

QUEUED = {"scheduling": Scheduling(queue="research")}
CRASHED = {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}


def suspended(manifest: dict) -> dict:
    holder = manifest["spec"]["runPolicy"] if manifest["kind"] == "PyTorchJob" else manifest["spec"]
    holder["suspend"] = True
    return manifest


@pytest.mark.parametrize("operator", ["pytorchjob", "trainjob", "job"])
def test_every_kind_of_job_has_the_same_states(operator: str):
    done = "Succeeded" if operator == "pytorchjob" else "Complete"
    pods = [pod(index) for index in range(1 if operator == "job" else 2)]
    assert state_of(job(operator), []).state is State.PENDING
    assert state_of(job(operator), pods).state is State.RUNNING
    assert state_of(job(operator, conditions={done: "well"}), pods).state is State.SUCCEEDED
    assert state_of(job(operator, conditions={"Failed": "backoff limit"}), pods) == (State.FAILED, "backoff limit")
    assert state_of(suspended(job(operator)), []).state is State.SUSPENDED
    assert state_of(suspended(job(operator, **QUEUED)), []).state is State.QUEUED


@pytest.mark.parametrize(
    ("pods", "state"),
    [
        ([pod(0)], State.STARTING),
        ([pod(0), waiting_pod(1, "ContainerCreating", "")], State.STARTING),
        ([pod(0), pending_pod(1, "0/3 nodes are available")], State.PENDING),
        ([pod(0), pod(1, waiting=("CrashLoopBackOff", ""), restarts=3)], State.RESTARTING),
        ([pod(0), pod(1, ended=CRASHED, restarts=1)], State.RESTARTING),
        ([pod(0), pod(1, phase="Failed", ended=CRASHED)], State.RESTARTING),
        ([pod(0), pod(1, restarts=2)], State.RUNNING),
        ([pod(0), pod(1, phase="Succeeded", ended={"exitCode": 0})], State.RUNNING),
    ],
)
def test_a_job_is_as_far_as_its_slowest_pod(pods: list, state: State):
    assert state_of(job(), pods).state is state


def test_an_old_condition_does_not_hide_how_a_job_ended():
    finished = job(conditions={"Succeeded": "done"})
    finished["status"]["conditions"].append({"type": "Restarting", "status": "False", "message": "earlier"})
    finished["status"]["conditions"].append({"type": "Running", "status": "False", "message": "earlier"})
    assert state_of(finished, []).state is State.SUCCEEDED


def test_a_job_that_is_deleted_is_deleting_whatever_else_it_is():
    leaving = job(conditions={"Running": "2 pods"})
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert state_of(leaving, [pod(0), pod(1)]).state is State.DELETING


def test_the_guide_has_every_state_and_every_field(repository: Path):
    guide = (repository / "docs" / "guide-cluster.md").read_text()
    table = guide.split("| state | when |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {str(state) for state in State}
    manifest = job("pytorchjob")
    manifest["metadata"]["name"] = "demo"
    fields = guide.split("have for each job:")[1].split(";")[0]
    assert re.findall(r"`(\w+)`", fields) == list(record_of(manifest, state_of(manifest, []), []))
