"""`lapactl submit laq --nodes 2 --wait` in real pods: no root, a read-only root file system, ZeRO-3 between two pods,
videos and checkpoints in an object store; a pod is taken away in the middle.
"""

import json

import pytest
from desk import Desk, ended, wait_until
from mlflow_server import MlflowServer
from node import Node

from lapa.models.storage import model_digest
from lapa.tracking.mlflow_client import open_client
from lapa.tracking.registry import Registry
from lapa.tracking.stage_log import read_history
from lapa_k8s.kinds import POD
from tests.e2e.programs import ZERO3
from tests.pods.conftest import STEPS

pytestmark = pytest.mark.pods


def test_a_stage_trains_in_two_pods_loses_one_resumes_and_registers_its_model(
    desk: Desk, node: Node, mlflow_server: MlflowServer
):
    settings = [f"--set={setting}" for setting in ZERO3]
    submit = ("submit", "laq", "--config", "run.yaml", "--nodes", "2", *settings, "--output", "json")
    waiting = desk.starts(*submit, "--wait")
    wait_until(lambda: bool(desk.says("jobs", "list")), waiting)
    (listed,) = desk.says("jobs", "list")
    job, last = listed["job"], f"{listed['job']}-worker-1"
    following = desk.starts("jobs", "logs", job, "--follow", "--output", "json")

    wait_until(lambda: bool(desk.checkpoints("laq")), waiting)
    assert desk.says("jobs", "show", job)["state"] == "running"
    assert desk.prints("jobs", "exec", job, "--node", "1", "--", "sh", "-c", "id -u; hostname") == f"10001\n{last}\n"
    refused = desk.starts("jobs", "exec", job, "--", "touch", "/opt/lapa/x")
    assert "Read-only file system" in "".join(refused.communicate()) and refused.returncode == 20
    first = node.cluster.get(POD, desk.namespace, last)["metadata"]["uid"]
    node.cluster.delete(POD, desk.namespace, last)

    submitted = json.loads(ended(waiting))
    assert submitted["job"] == job and submitted["created"] and submitted["nodes"] == 2
    assert node.cluster.get(POD, desk.namespace, last)["metadata"]["uid"] != first, "another pod of that name"
    result = desk.result("laq")
    assert result is not None
    losses = read_history(result.folder)["train/total"]
    assert [step for step, _ in losses] == list(range(1, STEPS + 1)), "every step once"

    followed = [json.loads(line) for line in ended(following).splitlines()]
    assert {line["rank"] for line in followed} >= {0, 1} and any("event=resumed" in line["text"] for line in followed)
    merged = desk.prints("jobs", "logs", job)
    assert "[rank 0] " in merged and "[rank 1] " in merged
    assert all(line.startswith("[rank 1] ") for line in desk.prints("jobs", "logs", job, "--rank", "1").splitlines())

    model = result.outputs["model"]
    assert model.url.startswith(desk.work_url) and model_digest(model.url) == model.digest
    run = open_client(mlflow_server.uri).get_run(submitted["mlflow_run_id"])
    assert run.info.status == "FINISHED" and run.data.tags["lapa.job"] == job
    assert Registry(mlflow_server.uri).get("lapa-laq", "candidate").digest == model.digest
    assert desk.says("jobs", "why", job)["why"] == "the job is done"
    again = desk.says(*submit[:-2])
    assert again["made"] == result.folder and not again["created"]
