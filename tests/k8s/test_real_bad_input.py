"""What users get wrong, from the command line to a real API server: one clear sentence, an exit code of its own, and
nothing left behind. `pytest -m cluster`.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_requests import Api, Object
from typer.testing import CliRunner, Result

from lapa_k8s import following
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import CONFIG_MAP, PYTORCHJOB, TRAINJOB
from lapa_k8s.names import CONTENT_ANNOTATION, MANAGED_SELECTOR
from lapactl.main import app

pytestmark = pytest.mark.cluster
PROFILE = """
namespace: {namespace}
images: {{train: "registry.example/lapa-train@sha256:{digest}"}}
storage: {{secret: bucket}}
tracking: {{uri: "http://127.0.0.1:9"}}
settings: {{work_url: "s3://team/lapa", videos.source.url: "s3://team/v", robot.source.url: "s3://team/r"}}
"""
KUEUE = "/apis/kueue.x-k8s.io/v1beta1"
Make = Callable[[str, Object], None]


@pytest.fixture(autouse=True)
def project(
    real_cluster: Cluster, kubeconfigs: dict[str, Path], namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user whose profile is complete, and who cannot read the bucket from here."""
    path = tmp_path / ".lapa" / "clusters" / "default.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE.format(namespace=namespace, digest="0" * 64))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAPA_CLUSTER", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfigs["admin"]))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # whether a machine has credentials is not asked about


@pytest.fixture
def make(kubeconfigs: dict[str, Path]) -> Make:
    admin = Api(kubeconfigs["admin"])

    def post(path: str, body: Object) -> None:
        answer = admin.ask("POST", path, body)
        assert answer.code == 201, answer

    return post


def submit(*options: str) -> Result:
    return CliRunner().invoke(app, ["submit", "laq", "--nodes", "2", *options])


def left(cluster: Cluster, namespace: str) -> list[str]:
    kinds = (CONFIG_MAP, PYTORCHJOB, TRAINJOB)
    found = [item for kind in kinds for item in cluster.select(kind, namespace, labels=MANAGED_SELECTOR)]
    return [f"{item['kind']}/{item['metadata']['name']}" for item in found]


def refused(result: Result, code: int, *words: str) -> None:
    """One error, its code, and words that say what and what next."""
    assert result.exit_code == code, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    for word in words:
        assert word in errors[0], errors[0]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--nodes", "0"), 2, ("--nodes 0", "at least 1")),
        (("--image", "Registry/LAPA:1"), 2, ("no image reference", "registry/name:tag")),
        (("--namespace", "nowhere"), 26, ("no namespace 'nowhere'", "--namespace")),
        (("--queue", "nothing"), 26, ("no LocalQueue 'nothing'", "--queue")),
        (("--cluster", "nothing"), 2, ("no cluster profile 'nothing'", "There is: default")),
        (("--gpus-per-node", "99"), 2, ("--gpus-per-node 99", "8 GPUs")),
    ],
)
def test_what_cannot_be_is_refused(
    real_cluster: Cluster, namespace: str, options: tuple[str, ...], code: int, words: tuple[str, ...]
):
    refused(submit(*options), code, *words)
    assert left(real_cluster, namespace) == []


def test_more_nodes_than_the_queue_will_ever_admit_are_refused(real_cluster: Cluster, namespace: str, make: Make):
    quota = [{"name": "nvidia.com/gpu", "nominalQuota": 16}]
    groups = [{"coveredResources": ["nvidia.com/gpu"], "flavors": [{"name": "h100", "resources": quota}]}]
    kueue: Object = {"apiVersion": "kueue.x-k8s.io/v1beta1"}
    queue = {"kind": "ClusterQueue", "metadata": {"name": namespace}, "spec": {"resourceGroups": groups}}
    local = {"kind": "LocalQueue", "metadata": {"name": "research"}, "spec": {"clusterQueue": namespace}}
    make(f"{KUEUE}/clusterqueues", {**kueue, **queue})
    make(f"{KUEUE}/namespaces/{namespace}/localqueues", {**kueue, **local})
    for dry in ((), ("--dry-run=server",)):
        result = submit("--nodes", "4", "--queue", "research", *dry)
        refused(result, 25, "4 nodes ask for 32", "never admit", "fewer --nodes")
    assert left(real_cluster, namespace) == []
    assert submit("--queue", "research").exit_code == 0


@pytest.mark.parametrize("counted", ["count/pytorchjobs.kubeflow.org", "configmaps"])
def test_a_quota_without_room_is_told_and_what_was_made_is_removed(
    real_cluster: Cluster, kubeconfigs: dict[str, Path], namespace: str, make: Make, counted: str
):
    quotas, used = f"/api/v1/namespaces/{namespace}/resourcequotas", real_cluster.select(CONFIG_MAP, namespace)
    hard = {counted: str(len(used) if counted == "configmaps" else 0)}
    make(quotas, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}})
    # What the quota's controller does; on a cluster of one's own it has, or will have, said the same.
    status = {"status": {"hard": hard, "used": hard}}
    path, patch = f"{quotas}/few/status", "application/merge-patch+json"
    assert Api(kubeconfigs["admin"]).ask("PATCH", path, status, kind_of_body=patch).code == 200
    refused(submit(), 25, "quota has no room", "few", "Ask for less")
    assert left(real_cluster, namespace) == []


def test_a_name_that_is_taken_is_told_and_new_gets_one_of_its_own(real_cluster: Cluster, namespace: str):
    assert submit().exit_code == 0
    (job,) = real_cluster.select(PYTORCHJOB, namespace)
    theirs = {"metadata": {"annotations": {CONTENT_ANNOTATION: "of-somebody-else"}}}
    real_cluster.patch(PYTORCHJOB, namespace, job["metadata"]["name"], theirs)
    before = left(real_cluster, namespace)
    refused(submit(), 24, "somebody else's", "--new")
    assert left(real_cluster, namespace) == before
    assert submit("--new").exit_code == 0


def test_who_may_not_is_told_which_role_is_missing(
    real_cluster: Cluster, kubeconfigs: dict[str, Path], namespace: str, monkeypatch: pytest.MonkeyPatch
):
    if "stranger" not in kubeconfigs:
        pytest.skip("a cluster of one's own has no stranger")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfigs["stranger"]))
    refused(submit(), 22, "you may not", "lapa-submitter")
    assert left(real_cluster, namespace) == []


def test_no_kubeconfig_and_a_login_program_that_fails_are_told(
    kubeconfigs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    refused(submit(), 21, "no kubeconfig", "KUBECONFIG")
    if "stranger" not in kubeconfigs:
        return
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-login", "args": []}
    config = kubeconfigs["admin"].read_text().replace('{"token": "admin-token"}', f'{{"exec": {json.dumps(plugin)}}}')
    (tmp_path / "plugin").write_text(config)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "plugin"))
    refused(submit(), 22, "without a login", "Log in again")


@pytest.mark.parametrize("command", [("wait",), ("logs", "--follow")])
def test_a_job_that_vanishes_while_it_is_followed_ends_the_command(
    real_cluster: Cluster, namespace: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(following, "POLL_SECONDS", 0.1)
    assert submit().exit_code == 0
    (job,) = real_cluster.select(PYTORCHJOB, namespace)
    name = job["metadata"]["name"]
    looked = threading.Event()
    find = following.job_pods

    def seen(*where: Any) -> Any:
        looked.set()
        return find(*where)

    monkeypatch.setattr(following, "job_pods", seen)
    remover = threading.Thread(target=lambda: (looked.wait(600), real_cluster.delete(PYTORCHJOB, namespace, name)))
    remover.start()
    started = time.monotonic()
    refused(CliRunner().invoke(app, ["jobs", *command[:1], name, *command[1:]]), 29, "no longer", "continues there")
    remover.join()
    assert time.monotonic() - started < 400


def test_a_cluster_without_an_operator_is_told(real_cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch):
    """As after `kubectl delete crd`: the kind is asked for by a name that this server does not serve."""
    gone = PYTORCHJOB._replace(api_version="gone.kubeflow.org/v1")
    monkeypatch.setattr("lapa_k8s.submission.PYTORCHJOB", gone)
    monkeypatch.setattr("lapa_k8s.submission.TRAINJOB", TRAINJOB._replace(api_version="gone.kubeflow.org/v1"))
    refused(submit(), 23, "neither PyTorchJob nor TrainJob", "platform team")
    assert left(real_cluster, namespace) == []
