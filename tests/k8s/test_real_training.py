"""`lapactl submit laq --nodes 2 --wait`, end to end: real API server, object store and MLflow server; stand-ins for
the operator, and for a node that runs pods as processes. `pytest -m cluster`.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from mlflow_server import MlflowServer
from process_node import ProcessNode, running_process_node
from training_operator import running_training_operator

from lapa import files
from lapa.models.storage import model_digest
from lapa.stages.results import StageResult, read_result
from lapa.tracking.mlflow_client import open_client
from lapa.tracking.registry import Registry
from lapa.tracking.stage_log import read_history
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import POD, PYTORCHJOB, SECRET
from lapa_k8s.states import container_statuses
from tests.builders import make_dataset
from tests.e2e.programs import tiny_run
from tests.s3_server import S3Server, s3

__all__ = ["s3"]  # the fixture

pytestmark = pytest.mark.cluster
STEPS = 120
PATIENCE_SECONDS = 900
"""For anything that takes seconds to a minute where nothing else runs."""
ZERO3 = ("engine.kind=deepspeed", "engine.zero_stage=3", "engine.device=cpu", "engine.bucket_bytes=20000")


class Desk(NamedTuple):
    """The laptop that submits, and where everything is that it has to do with."""

    folder: Path
    environment: dict[str, str]
    work_url: str
    tracking: str
    namespace: str

    def starts(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("lapactl")), *words],
            env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def submits(self, *words: str) -> "subprocess.Popen[str]":
        settings = [f"--set={setting}" for setting in ZERO3]
        return self.starts("submit", "laq", "--config", "run.yaml", "--nodes", "2", *settings, *words)

    def says(self, *words: str) -> Any:
        """What a command prints as JSON; it must succeed."""
        return ended(self.starts(*words, "--output", "json"))

    def asks(self, verb: str, job: str) -> Any:
        return self.says("jobs", verb, job)

    def result(self) -> StageResult | None:
        return read_result(self.stage_folder())

    def stage_folder(self) -> str:
        (name,) = (part for part in files.list_names(self.work_url) if part.startswith("laq-"))
        return files.join(self.work_url, name)

    def has_checkpoint(self) -> bool:
        stages = [part for part in files.list_names(self.work_url) if part.startswith("laq-")]
        return any(
            files.exists(files.join(self.work_url, stage, "checkpoints", step, "manifest.json"))
            for stage in stages
            for step in files.list_names(files.join(self.work_url, stage, "checkpoints"))
        )


def ended(process: "subprocess.Popen[str]") -> Any:
    """The JSON that a command printed."""
    said, words = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, f"exit code {process.returncode}\n{said}\n{words}"
    return json.loads(said)


def wait_until(is_so: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Waits for a condition, as long as a process goes on."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.2)


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
    """Videos in a bucket, a Secret with its keys in the namespace, and a profile that names both."""
    if "stranger" not in kubeconfigs:
        pytest.skip("a cluster of one's own has a node, and an operator if any")
    bucket = s3.new_bucket(namespace)
    make_dataset(str(tmp_path / "videos"), episodes=10, actions=False, episodes_per_shard=2)
    files.upload(tmp_path / "videos", f"{bucket}/videos")
    work_url = f"{bucket}/run"
    keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "data": encoded}
    real_cluster.create(SECRET, namespace, secret)
    profile = {
        "namespace": namespace,
        "images": {"train": "registry.example/lapa-train:test"},
        "gpu_node": {"gpus": 0, "cpu": 1, "memory_gib": 4, "shared_memory_gib": 1},
        "storage": {"endpoint_url": s3.endpoint, "region": "us-east-1", "secret": "bucket"},
        "tracking": {"uri": mlflow_server.uri},
    }
    clusters = tmp_path / "config" / "lapa" / "clusters"
    clusters.mkdir(parents=True)
    (clusters / "default.yaml").write_text(yaml.safe_dump(profile))
    run = tiny_run(tmp_path, f"{bucket}/videos", "unused")
    run |= {"work_url": work_url, "robot": None, "pretrain": None, "finetune": None, "evaluate": None}
    run["laq"]["fit"] |= {"steps": STEPS, "validate_every": STEPS, "checkpoint_every": 10}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=False))
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfigs["admin"]),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "HOME": str(tmp_path),
    }
    return Desk(tmp_path, environment, work_url, mlflow_server.uri, namespace)


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
    desk: Desk, node: ProcessNode, real_cluster: Cluster
):
    waiting = desk.submits("--wait", "--output", "json")
    wait_until(desk.has_checkpoint, waiting)
    job = the_job(real_cluster, desk)
    node.kill(f"{job}-worker-1")
    again = ended(desk.submits("--output", "json"))
    assert (again["job"], again["created"]) == (job, False), "the same command is the same job"
    wait_until(lambda: has_started_again(real_cluster, desk, f"{job}-worker-1"), waiting)
    its_story_is_told(desk, job)
    first = succeeded(waiting)
    assert (first["job"], first["created"], first["nodes"], first["processes"]) == (job, True, 2, 2)

    resumed_and_trained_every_step_once(desk, job)
    result = desk.result()
    assert result is not None
    model = result.outputs["model"]
    assert model.url.startswith(desk.work_url) and model_digest(model.url) == model.digest
    run = open_client(desk.tracking).get_run(first["mlflow_run_id"])
    assert run.info.status == "FINISHED" and run.data.tags["lapa.job"] == job
    (version,) = Registry(desk.tracking).list_models("lapa-laq")
    assert (version.url, version.digest, version.run_id) == (model.url, model.digest, run.info.run_id)

    (row,) = desk.says("jobs", "list")
    assert (row["job"], row["state"], row["nodes"]) == (job, "succeeded", 2)
    assert desk.asks("why", job)["why"] == "the job is done"
    made = ended(desk.submits("--output", "json"))
    assert (made["made"], made["created"]) == (result.folder, False), "there is nothing left to do"


def its_story_is_told(desk: Desk, job: str) -> None:
    """What `lapactl jobs` says of a job whose second node was killed and has started again. When the first pod is
    done, the operator removes those that are not yet, and their story with them."""
    shown = desk.asks("show", job)
    assert [(pod["restarts"], pod["last_exit_code"]) for pod in shown["pods"]] == [(0, None), (1, 137)]
    digest = desk.asks("digest", job)
    assert digest["pod"] == f"{job}-worker-1" and digest["remedy"]
    assert [(end["pod"], end["exit_code"]) for end in digest["endings"]] == [(f"{job}-worker-1", 137)]
    assert "SIGKILL" in digest["endings"][0]["meaning"]
    before = said_lines(desk.starts("jobs", "logs", job, "--previous", "--output", "json"))
    assert {line["pod"] for line in before} == {f"{job}-worker-1"}, "the other container is still the first"


def has_started_again(cluster: Cluster, desk: Desk, pod: str) -> bool:
    (status,) = container_statuses(cluster.get(POD, desk.namespace, pod))
    return bool(status["restartCount"] == 1 and "running" in status["state"])


def test_a_stage_goes_on_when_the_pod_where_the_nodes_meet_is_preempted(
    desk: Desk, node: ProcessNode, real_cluster: Cluster
):
    waiting = desk.submits("--wait", "--output", "json")
    wait_until(desk.has_checkpoint, waiting)
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
    losses = read_history(desk.stage_folder())["train/total"]
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    log = said_lines(desk.starts("jobs", "logs", job, "--output", "json"))  # of the pod that was done first, at least
    assert any("event=resumed step=" in line["text"] for line in log), "it did not begin anew"


def said_lines(process: "subprocess.Popen[str]") -> list[Any]:
    """The lines of a log, each a JSON object."""
    said, words = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, words
    return [json.loads(line) for line in said.splitlines()]
