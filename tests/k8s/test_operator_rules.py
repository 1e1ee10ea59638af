"""What the training operator makes of our PyTorchJobs, by its rules (`tests/support/pytorchjob_rules.py`)."""

from typing import Any

import pytest
from job_specs import SMALL_NODE, job_spec
from pytorchjob_rules import next_status, pods_to_delete, worker_environment, worker_pod

from lapa_k8s.parts import Restarts
from lapa_k8s.rendering.manifests import render
from lapa_k8s.states import State, state_of

NODES, RETRIES = 2, 3
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def job() -> dict[str, Any]:
    spec = job_spec(nodes=NODES, processes_per_node=1, node=SMALL_NODE, restarts=Restarts(retries=RETRIES))
    found = render(spec).job
    found["metadata"]["uid"] = "job-uid"
    return found


def pods_of(job: dict[str, Any], phase: str, *, restarts: int = 0) -> list[dict[str, Any]]:
    status = {"phase": phase, "containerStatuses": [{"restartCount": restarts, "state": {"running": {}}}]}
    return [{**worker_pod(job, index), "status": status} for index in range(NODES)]


def test_a_worker_learns_from_its_variables_where_the_nodes_meet_and_how_many_they_are(job: dict[str, Any]):
    found = {item["name"]: item["value"] for item in worker_environment(job)}
    name = job["metadata"]["name"]
    assert found == {
        "PYTHONUNBUFFERED": "1",
        "PET_NPROC_PER_NODE": "1",
        "PET_NNODES": "2:2",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{name}-worker-0:23456",
        "PET_RDZV_ID": name,
        "PET_RDZV_CONF": "join_timeout=900,read_timeout=900,timeout=900",
        "PET_MAX_RESTARTS": "3",
    }


def test_no_variable_of_ours_meets_one_of_the_operators(job: dict[str, Any]):
    (container,) = worker_pod(job, 0)["spec"]["containers"]
    names = [item["name"] for item in container["env"]]
    assert len(names) == len(set(names))


def test_a_job_outlives_every_restart_of_all_its_nodes_that_it_was_promised(job: dict[str, Any]):
    last = next_status(job, pods_of(job, "Running", restarts=RETRIES), NOW)
    assert state_of({**job, "status": last}, pods_of(job, "Running")).state is State.RUNNING
    over = next_status(job, pods_of(job, "Running", restarts=RETRIES + 1), NOW)
    assert state_of({**job, "status": over}, []).state is State.FAILED


def test_what_is_suspended_gives_its_pods_back_and_starts_anew_when_it_is_resumed(job: dict[str, Any]):
    pods = pods_of(job, "Running")
    job["status"] = next_status(job, pods, NOW)
    job["spec"]["runPolicy"]["suspend"] = True
    job["status"] = next_status(job, pods, NOW)
    assert pods_to_delete(job, job["status"], pods) == pods
    assert state_of(job, []).state is State.SUSPENDED
    job["spec"]["runPolicy"]["suspend"] = False
    job["status"] = next_status(job, pods, NOW)
    assert state_of(job, pods).state is State.RUNNING


def test_a_failed_job_leaves_no_pod_on_its_gpus(job: dict[str, Any]):
    pods = [pods_of(job, "Running", restarts=99)[0], pods_of(job, "Failed")[1]]
    status = next_status(job, pods, NOW)
    assert pods_to_delete(job, status, pods) == pods[:1]


def test_a_pod_that_was_evicted_is_made_anew(job: dict[str, Any]):
    pods = [pods_of(job, "Running")[0], pods_of(job, "Failed")[1]]
    status = next_status(job, pods, NOW)
    assert pods_to_delete(job, status, pods) == pods[1:]
    assert state_of({**job, "status": status}, pods[:1]).state is State.RESTARTING
