"""Pipelines and `doctor` against a real API server; a stand-in ends the stages' jobs. `pytest -m cluster`.

The driver is a process of its own, with the rights of the pipeline's role and no others.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import yaml
from job_specs import SMALL_NODE, job_spec
from operator_stand_in import running_stand_in
from typer.testing import CliRunner, Result

from lapa_k8s.access import PIPELINE, QUEUES, SUBMITTER, Right
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import CONFIG_MAP, JOB, PYTORCHJOB, SERVICE_ACCOUNT, TRAINJOB
from lapa_k8s.pipeline import PipelineSpec
from lapa_k8s.pipeline_driver import main
from lapa_k8s.pipeline_progress import cancel_pipeline
from lapa_k8s.rendering.pipeline import PLAN_FILE, render_pipeline
from lapa_k8s.submission import send
from lapactl.main import app

pytestmark = pytest.mark.cluster
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PROFILE = """
namespace: {namespace}
images: {{train: "registry.example/lapa-train@sha256:{digest}"}}
scheduling: {{queue: research}}
service_account: lapa-runner
storage: {{secret: bucket}}
tracking: {{uri: "http://127.0.0.1:9"}}
settings: {{work_url: "s3://team/lapa"}}
"""


def pipeline(namespace: str) -> PipelineSpec:
    common = {"namespace": namespace, "node": SMALL_NODE}
    stages = (
        job_spec(stage="ingest", operator="job", nodes=1, processes_per_node=1, **common),
        job_spec(stage="laq", nodes=2, processes_per_node=1, **common),
        job_spec(stage="label", nodes=2, processes_per_node=1, operator="trainjob", **common),
    )
    return PipelineSpec(run="demo", namespace=namespace, stages=stages, node=SMALL_NODE)


def grant(cluster: Cluster, namespace: str, rights: tuple[Right, ...]) -> None:
    """These rights and no others to the user `stranger`."""
    metadata = {"name": "granted", "namespace": namespace}
    rules = [{"apiGroups": [right.group], "resources": [right.words], "verbs": list(right.verbs)} for right in rights]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "granted"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "stranger"}],
    }
    cluster.post_path(f"{RBAC}/namespaces/{namespace}/roles", role)
    cluster.post_path(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)


@pytest.fixture
def stranger(kubeconfigs: dict[str, Path]) -> Path:
    if "stranger" not in kubeconfigs:
        pytest.skip("a cluster of one's own has no stranger")
    return kubeconfigs["stranger"]


Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start_driver(real_cluster: Cluster, namespace: str, stranger: Path, tmp_path: Path) -> Start:
    """Starts the driver of the namespace's pipeline, with the plan that the cluster holds."""
    manifests = render_pipeline(pipeline(namespace))
    assert send(real_cluster, manifests).is_new
    stored = real_cluster.get(CONFIG_MAP, namespace, pipeline(namespace).name)
    plan = tmp_path / PLAN_FILE
    plan.write_text(stored["data"][PLAN_FILE])
    container = manifests.job["spec"]["template"]["spec"]["containers"][0]
    command = [sys.executable, *container["command"][1:-1], str(plan)]
    environment = {**os.environ, "KUBECONFIG": str(stranger)}
    return lambda: subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_every_stage_follows_the_one_before_with_the_rights_of_the_pipelines_role(
    real_cluster: Cluster, namespace: str, start_driver: Start
):
    grant(real_cluster, namespace, PIPELINE)
    with running_stand_in(real_cluster, namespace) as stand_in:
        driver = start_driver()
        said, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, said
    assert stand_in.ended == ["ingest", "laq", "label"]
    assert stand_in.at_once == 1
    owner = real_cluster.get(CONFIG_MAP, namespace, pipeline(namespace).stages[1].name)["metadata"]["ownerReferences"]
    assert [item["kind"] for item in owner] == ["PyTorchJob"]


def test_a_driver_that_is_stopped_goes_on_with_the_job_that_is_there(
    real_cluster: Cluster, namespace: str, start_driver: Start
):
    grant(real_cluster, namespace, PIPELINE)
    first = pipeline(namespace).stages[0].name
    driver = start_driver()
    assert driver.stdout is not None
    # Its own word: a submission that is stopped before the driver has read every answer leaves nothing.
    assert any(f"job {first} submitted" in line for line in driver.stdout)
    job = real_cluster.get(JOB, namespace, first)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=900) == 75
    with running_stand_in(real_cluster, namespace) as stand_in:
        again = start_driver()
        said, _ = again.communicate(timeout=900)
    assert again.returncode == 0, said
    assert real_cluster.get(JOB, namespace, first)["metadata"]["uid"] == job["metadata"]["uid"]
    assert stand_in.ended == ["ingest", "laq", "label"]


def test_a_failed_stage_ends_the_pipeline(real_cluster: Cluster, namespace: str, start_driver: Start):
    grant(real_cluster, namespace, PIPELINE)
    with running_stand_in(real_cluster, namespace, failing=("laq",)):
        driver = start_driver()
        said, _ = driver.communicate(timeout=900)
    assert driver.returncode == 28
    assert "lapactl jobs digest" in said
    assert real_cluster.find(TRAINJOB, namespace, pipeline(namespace).stages[2].name) is None


def test_a_driver_without_rights_says_so_and_leaves_nothing(real_cluster: Cluster, namespace: str, start_driver: Start):
    driver = start_driver()
    said, _ = driver.communicate(timeout=900)
    assert driver.returncode == 22
    assert "you may not" in said
    assert real_cluster.find(JOB, namespace, pipeline(namespace).stages[0].name) is None


def test_cancelling_removes_the_pipeline_and_the_stage_that_runs(real_cluster: Cluster, namespace: str):
    spec = pipeline(namespace)
    plan = render_pipeline(spec)
    send(real_cluster, plan)
    step = json.loads(plan.config_map["data"][PLAN_FILE])[1]
    real_cluster.create(PYTORCHJOB, namespace, step["job"])
    assert [job["metadata"]["name"] for job in cancel_pipeline(real_cluster, namespace, spec.name)] == [
        spec.stages[1].name
    ]
    assert real_cluster.find(JOB, namespace, spec.name) is None
    assert real_cluster.find(PYTORCHJOB, namespace, spec.stages[1].name) is None


def lapactl(*arguments: str) -> Result:
    result = CliRunner().invoke(app, [*arguments, "--cluster", "real"])
    assert result.exit_code == 0, result.stderr
    return result


SETTINGS = ("--set", 'videos={"kind":"dataset","url":"memory://v"}', "--set", "robot=null", "--set", "finetune=null")


def test_the_server_accepts_a_pipeline_in_a_dry_run(
    real_cluster: Cluster, namespace: str, kubeconfigs: dict[str, Path], tmp_path: Path, monkeypatch
):
    make_queue(real_cluster, namespace)
    write_profile(tmp_path, namespace, monkeypatch, kubeconfigs["admin"])
    result = lapactl("submit", "pipeline", "--nodes", "2", "--dry-run=server", *SETTINGS)
    assert "those of every stage" in result.stderr
    assert real_cluster.select(CONFIG_MAP, namespace, labels="app.kubernetes.io/name=lapa") == []


def test_what_the_command_submits_is_driven_to_its_end_by_a_pod_with_a_token_of_its_own(
    real_cluster: Cluster, namespace: str, stranger: Path, kubeconfigs: dict[str, Path], tmp_path: Path, monkeypatch
):
    grant(real_cluster, namespace, PIPELINE)
    make_queue(real_cluster, namespace)
    write_profile(tmp_path, namespace, monkeypatch, kubeconfigs["admin"])
    command = ("submit", "pipeline", "--nodes", "2", "--output", "json", *SETTINGS)
    made = json.loads(lapactl(*command).stdout)
    assert made["created"] is True
    plan = tmp_path / PLAN_FILE
    plan.write_text(real_cluster.get(CONFIG_MAP, namespace, made["job"])["data"][PLAN_FILE])
    with monkeypatch.context() as patch, running_stand_in(real_cluster, namespace) as stand_in:
        be_a_pod(patch, tmp_path, stranger)
        assert main([str(plan)]) == 0
    assert stand_in.ended == ["ingest", "laq", "label", "pretrain"]
    listed = json.loads(lapactl("jobs", "list", "--output", "json").stdout)
    assert [row["state"] for row in listed if row["pipeline"] == made["job"]] == ["succeeded"] * 4
    shown = json.loads(lapactl("jobs", "show", made["job"], "--output", "json").stdout)
    assert [item["state"] for item in shown["stages"]] == ["succeeded"] * 4
    assert json.loads(lapactl(*command).stdout)["created"] is False


def be_a_pod(patch: pytest.MonkeyPatch, folder: Path, kubeconfig: Path) -> None:
    """The files and variables by which a pod finds the API; this process keeps its own way to end."""
    config = yaml.safe_load(kubeconfig.read_text())
    server = urlparse(config["clusters"][0]["cluster"]["server"])
    token = folder / "token"
    token.write_text(config["users"][0]["user"]["token"])
    patch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(token))
    authority = config["clusters"][0]["cluster"]["certificate-authority"]
    patch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", authority)
    patch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
    patch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    patch.setenv("KUBECONFIG", str(folder / "none"))
    patch.setattr("lapa_k8s.pipeline_driver.signal.signal", lambda *_: None)


def write_profile(folder: Path, namespace: str, monkeypatch: pytest.MonkeyPatch, kubeconfig: Path) -> None:
    path = folder / ".lapa" / "clusters" / "real.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE.format(namespace=namespace, digest="0" * 64))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LAPA_CLUSTER", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))


def doctor(*options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(app, ["doctor", "--cluster", "real", "--output", "json", *options])
    return result.exit_code, {row["check"]: row for row in json.loads(result.stdout)}


def make_queue(cluster: Cluster, namespace: str) -> None:
    """`research`, of 16 GPUs."""
    quota = [{"name": "nvidia.com/gpu", "nominalQuota": 16}]
    groups = [{"coveredResources": ["nvidia.com/gpu"], "flavors": [{"name": "h100", "resources": quota}]}]
    kueue = {"apiVersion": "kueue.x-k8s.io/v1beta1"}
    body = {**kueue, "kind": "ClusterQueue", "metadata": {"name": namespace}, "spec": {"resourceGroups": groups}}
    cluster.post_path("/apis/kueue.x-k8s.io/v1beta1/clusterqueues", body)
    local = {**kueue, "kind": "LocalQueue", "metadata": {"name": "research"}, "spec": {"clusterQueue": namespace}}
    cluster.post_path(f"/apis/kueue.x-k8s.io/v1beta1/namespaces/{namespace}/localqueues", local)


def prepare(cluster: Cluster, namespace: str) -> None:
    """What a platform team would have made: accounts, a Secret, a queue of 16 GPUs."""
    for name in ("lapa-runner", "lapa-pipeline"):
        cluster.create(SERVICE_ACCOUNT, namespace, {"metadata": {"name": name}})
    cluster.post_path(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "bucket"}})
    make_queue(cluster, namespace)


def test_doctor_finds_a_prepared_cluster_in_order(
    real_cluster: Cluster, namespace: str, kubeconfigs: dict[str, Path], tmp_path: Path, monkeypatch
):
    prepare(real_cluster, namespace)
    write_profile(tmp_path, namespace, monkeypatch, kubeconfigs["admin"])
    code, rows = doctor("--nodes", "2")
    assert code == 0, rows
    checks = ("api", "namespace", "permissions", "operators", "queue", "quota", "service account", "storage.secret")
    assert {rows[check]["status"] for check in checks} == {"ok"}
    assert rows["pipeline account"]["status"] == "ok"
    code, rows = doctor("--nodes", "3")
    assert code == 1
    assert "16 nvidia.com/gpu nominal" in rows["queue"]["found"]


def test_doctor_names_what_is_missing(
    real_cluster: Cluster, namespace: str, stranger: Path, tmp_path: Path, monkeypatch
):
    write_profile(tmp_path, namespace, monkeypatch, stranger)
    code, rows = doctor()
    assert code == 1
    assert "pytorchjobs: create, get, list, watch, patch, delete" in rows["permissions"]["found"]
    grant(real_cluster, namespace, (*SUBMITTER, *QUEUES))
    code, rows = doctor()
    assert rows["permissions"]["status"] == "ok"
    assert "no LocalQueue 'research'" in rows["queue"]["found"]
    assert rows["storage.secret"]["status"] == "unseen"
