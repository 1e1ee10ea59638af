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
from lapa.tracking.registry import LAQ_MODEL, Registry
from lapa.tracking.stage_log import read_history
from lapa_k8s.kinds import POD
from tests.e2e.programs import ZERO3
from tests.pods.conftest import STEPS

pytestmark = pytest.mark.pods


def running_pods(node: Node, desk: Desk) -> list[str]:
    """Names, in node order."""
    pods = node.cluster.select(POD, desk.namespace)
    return sorted(pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running")


def is_replaced(node: Node, desk: Desk, name: str, uid: str) -> bool:
    """Whether another pod has the name."""
    found = node.cluster.find(POD, desk.namespace, name)
    return found is not None and found["metadata"]["uid"] != uid


def test_a_stage_trains_in_two_pods_loses_one_resumes_and_registers_its_model(
    desk: Desk, node: Node, mlflow_server: MlflowServer
):
    settings = [f"--set={setting}" for setting in ZERO3]
    submit = ("submit", "laq", "--config", "run.yaml", "--nodes", "2", *settings, "--output", "json")
    waiting = desk.starts(*submit, "--wait")
    wait_until(lambda: len(running_pods(node, desk)) == 2, waiting)
    last = running_pods(node, desk)[1]
    job = last.removesuffix("-worker-1")
    following = desk.starts("jobs", "logs", job, "--follow", "--output", "json")
    wait_until(lambda: bool(desk.checkpoints("laq")), waiting)
    first = node.cluster.get(POD, desk.namespace, last)["metadata"]["uid"]
    node.cluster.delete(POD, desk.namespace, last)
    wait_until(lambda: is_replaced(node, desk, last, first), waiting)

    submitted = json.loads(ended(waiting))
    assert submitted["job"] == job and submitted["created"] and submitted["nodes"] == 2
    result = desk.result("laq")
    assert result is not None
    losses = read_history(result.folder)["train/total"]
    assert [step for step, _ in losses] == list(range(1, STEPS + 1)), "every step once"

    followed = [json.loads(line) for line in ended(following).splitlines()]
    assert {line["rank"] for line in followed} >= {0, 1} and any("event=resumed" in line["text"] for line in followed)

    model = result.outputs["model"]
    assert model.url.startswith(desk.work_url) and model_digest(model.url) == model.digest
    run = open_client(mlflow_server.uri).get_run(submitted["mlflow_run_id"])
    assert run.info.status == "FINISHED" and run.data.tags["lapa.job"] == job
    registered = Registry(mlflow_server.uri).find(LAQ_MODEL, digest=model.digest)
    assert registered is not None and registered.run_id
    assert desk.says("jobs", "why", job)["why"] == "the job is done"
    again = desk.says(*submit[:-2])
    assert again["made"] == result.folder and not again["created"]
