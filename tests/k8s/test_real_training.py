"""`lapactl submit laq --nodes 2 --wait`, end to end: real API server, object store and MLflow server; stand-ins for
the operator, and for a node that runs pods as processes. `pytest -m cluster`.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import PATIENCE_SECONDS, Desk, new_desk, wait_until
from mlflow_server import MlflowServer
from process_node import ProcessNode, running_process_node
from training_operator import running_training_operator

from lapa.models.storage import model_digest
from lapa.tracking.mlflow_client import open_client
from lapa.tracking.registry import Registry
from lapa.tracking.stage_log import read_history
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import POD, PYTORCHJOB
from lapa_k8s.states import container_statuses
from tests.e2e.programs import ZERO3
from tests.s3_server import S3Server, s3

__all__ = ["s3"]  # the fixture

pytestmark = pytest.mark.cluster
STEPS = 120
SUBMIT = ("submit", "laq", "--config", "run.yaml", "--nodes", "2", *(f"--set={setting}" for setting in ZERO3))


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def desk(
    kubeconfigs: dict[str, Path], real_cluster: Cluster, namespace: str, s3: S3Server, mlflow_server: MlflowServer,
    tmp_path: Path,
) -> Desk:  # fmt: skip
    if "stranger" not in kubeconfigs:
        pytest.skip("a cluster of one's own has a node, and an operator if any")
    profile = {
        "images": {"train": "registry.example/lapa-train:test"},
        "gpu_node": {"gpus": 0, "cpu": 1, "memory_gib": 4, "shared_memory_gib": 1},
        "tracking": {"uri": mlflow_server.uri},
    }
    fit = {"steps": STEPS, "validate_every": STEPS, "checkpoint_every": 10}
    return new_desk(tmp_path, real_cluster, namespace, s3, kubeconfig=kubeconfigs["admin"], profile=profile, fit=fit)


@pytest.fixture
def node(real_cluster: Cluster, namespace: str) -> Iterator[ProcessNode]:
    """A node, and an operator that makes pods for it."""
    folder = Path(tempfile.mkdtemp(prefix="pods-"))  # a short path: processes put sockets into it
    try:
        running = running_process_node(real_cluster, namespace, folder)
        with running as found, running_training_operator(real_cluster, namespace):
            yield found
    finally:
        shutil.rmtree(folder)


def test_a_submitted_stage_trains_on_two_nodes_loses_a_pod_resumes_and_registers_its_model(
    desk: Desk, node: ProcessNode, real_cluster: Cluster, mlflow_server: MlflowServer
):
    waiting = desk.starts(*SUBMIT, "--wait", "--output", "json")
    wait_until(lambda: bool(desk.checkpoints("laq")), waiting)
    job = the_job(real_cluster, desk)
    node.kill(f"{job}-worker-1")
    again = desk.says(*SUBMIT)
    assert (again["job"], again["created"]) == (job, False), "the same command is the same job"
    wait_until(lambda: has_started_again(real_cluster, desk, f"{job}-worker-1"), waiting)
    its_story_is_told(desk, job)
    first = succeeded(waiting)
    assert (first["job"], first["created"], first["nodes"], first["processes"]) == (job, True, 2, 2)

    resumed_and_trained_every_step_once(desk, job)
    result = desk.result("laq")
    assert result is not None
    model = result.outputs["model"]
    assert model.url.startswith(desk.work_url) and model_digest(model.url) == model.digest
    run = open_client(mlflow_server.uri).get_run(first["mlflow_run_id"])
    assert run.info.status == "FINISHED" and run.data.tags["lapa.job"] == job
    (version,) = Registry(mlflow_server.uri).list_models("lapa-laq")
    assert (version.url, version.digest, version.run_id) == (model.url, model.digest, run.info.run_id)

    (row,) = desk.says("jobs", "list")
    assert (row["job"], row["state"], row["nodes"]) == (job, "succeeded", 2)
    assert desk.says("jobs", "why", job)["why"] == "the job is done"
    made = desk.says(*SUBMIT)
    assert (made["made"], made["created"]) == (result.folder, False), "there is nothing left to do"


def its_story_is_told(desk: Desk, job: str) -> None:
    """What `lapactl jobs` says of a job whose second node was killed and has started again. When the first pod is
    done, the operator removes those that are not yet, and their story with them."""
    shown = desk.says("jobs", "show", job)
    assert [(pod["restarts"], pod["last_exit_code"]) for pod in shown["pods"]] == [(0, None), (1, 137)]
    digest = desk.says("jobs", "digest", job)
    assert digest["pod"] == f"{job}-worker-1" and digest["remedy"]
    assert [(end["pod"], end["exit_code"]) for end in digest["endings"]] == [(f"{job}-worker-1", 137)]
    assert "SIGKILL" in digest["endings"][0]["meaning"]
    before = said_lines(desk, "jobs", "logs", job, "--previous")
    assert {line["pod"] for line in before} == {f"{job}-worker-1"}, "the other container is still the first"


def has_started_again(cluster: Cluster, desk: Desk, pod: str) -> bool:
    (status,) = container_statuses(cluster.get(POD, desk.namespace, pod))
    return bool(status["restartCount"] == 1 and "running" in status["state"])


def test_a_stage_goes_on_when_the_pod_where_the_nodes_meet_is_preempted(
    desk: Desk, node: ProcessNode, real_cluster: Cluster
):
    waiting = desk.starts(*SUBMIT, "--wait", "--output", "json")
    wait_until(lambda: bool(desk.checkpoints("laq")), waiting)
    job = the_job(real_cluster, desk)
    pod = f"{job}-worker-0"
    before = real_cluster.get(POD, desk.namespace, pod)["metadata"]["uid"]
    real_cluster.delete(POD, desk.namespace, pod)
    wait_until(lambda: is_another(real_cluster, desk, pod, than=before), waiting)
    succeeded(waiting)
    resumed_and_trained_every_step_once(desk, job)


def is_another(cluster: Cluster, desk: Desk, pod: str, *, than: str) -> bool:
    found = cluster.find(POD, desk.namespace, pod)
    return found is not None and found["metadata"]["uid"] != than


def the_job(cluster: Cluster, desk: Desk) -> str:
    (job,) = (item["metadata"]["name"] for item in cluster.select(PYTORCHJOB, desk.namespace))
    return str(job)


def succeeded(waiting: "subprocess.Popen[str]") -> Any:
    """What `submit --wait` printed about a job that ran to its end."""
    said, words = waiting.communicate(timeout=PATIENCE_SECONDS)
    assert waiting.returncode == 0, f"exit code {waiting.returncode}\n{said}\n{words}"
    assert "running: 2 pods, 0 restarts" in words and "succeeded: PyTorchJob" in words
    return json.loads(said)


def resumed_and_trained_every_step_once(desk: Desk, job: str) -> None:
    result = desk.result("laq")
    assert result is not None
    losses = read_history(result.folder)["train/total"]
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    log = said_lines(desk, "jobs", "logs", job)  # of the pod that was done first, at least
    assert any("event=resumed step=" in line["text"] for line in log), "it did not begin anew"


def said_lines(desk: Desk, *words: str) -> list[Any]:
    """The lines of a log, each a JSON object."""
    return [json.loads(line) for line in desk.prints(*words, "--output", "json").splitlines()]
