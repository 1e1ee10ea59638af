"""What `lapactl submit pretrain --nodes 8 --dry-run` prints, before a real API server. `pytest -m cluster`."""

from pathlib import Path

import pytest
import yaml
from pytorchjob_rules import worker_pod
from typer.testing import CliRunner, Result

from lapa_k8s.client import Cluster
from lapa_k8s.kinds import CONFIG_MAP, POD, PYTORCHJOB
from lapactl.main import app

pytestmark = pytest.mark.cluster
PROFILE = """
namespace: {namespace}
images: {{train: "registry.example/lapa-train@sha256:{digest}"}}
service_account: lapa-runner
storage: {{secret: bucket}}
tracking: {{uri: "http://mlflow.example"}}
settings:
  work_url: "s3://team/lapa"
  videos.source.url: "s3://team/videos"
  robot.source.url: "s3://team/robot"
"""


@pytest.fixture
def profile(kubeconfigs: dict[str, Path], namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose profile is complete, and whose cluster is the real server."""
    path = tmp_path / ".lapa" / "clusters" / "default.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE.format(namespace=namespace, digest="0" * 64))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAPA_CLUSTER", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfigs["admin"]))


def submit_pretrain(*options: str) -> Result:
    result = CliRunner().invoke(app, ["submit", "pretrain", "--nodes", "8", *options])
    assert result.exit_code == 0, result.stderr
    return result


def stored(cluster: Cluster, namespace: str) -> list[str]:
    kinds = (CONFIG_MAP, PYTORCHJOB, POD)
    labels = "app.kubernetes.io/name=lapa"
    return [item["metadata"]["name"] for kind in kinds for item in cluster.select(kind, namespace, labels=labels)]


@pytest.mark.usefixtures("profile")
def test_the_server_accepts_what_a_dry_run_prints_and_the_pods_that_the_operator_makes_of_it(
    real_cluster: Cluster, namespace: str
):
    config_map, job = yaml.safe_load_all(submit_pretrain("--dry-run").stdout)
    accepted = [
        real_cluster.create(kind, namespace, body, is_dry_run=True)
        for kind, body in ((CONFIG_MAP, config_map), (PYTORCHJOB, job))
    ]
    assert accepted[1]["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 8
    for index in (0, 7):
        pod = worker_pod(accepted[1], index)
        made = real_cluster.create(POD, namespace, pod, is_dry_run=True)
        assert made["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert stored(real_cluster, namespace) == []


@pytest.mark.usefixtures("profile")
def test_a_dry_run_on_the_server_asks_it_and_stores_nothing(real_cluster: Cluster, namespace: str):
    result = submit_pretrain("--dry-run=server")
    assert "the cluster accepts these manifests" in result.stderr
    _, job = yaml.safe_load_all(result.stdout)
    assert job["metadata"]["namespace"] == namespace and job["kind"] == "PyTorchJob"
    assert stored(real_cluster, namespace) == []
