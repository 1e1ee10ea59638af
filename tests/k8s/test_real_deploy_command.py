"""`lapactl deploy` against a real API server, from a profile and a registry in a file. `pytest -m cluster`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment_controller import BROKEN, running_controller
from typer.testing import CliRunner, Result

from lapa.config.run import TrackingConfig
from lapa.tracking.registry import Registry
from lapa_k8s import rollout
from lapa_k8s.client import Cluster
from lapa_k8s.kinds import DEPLOYMENT, SERVICE
from lapactl.main import app
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)

pytestmark = pytest.mark.cluster
PROFILE = """
namespace: {namespace}
images: {{serve: "registry.example/lapa-serve@sha256:{digest}"}}
serving: {{token: {{secret: policy-token, key: token}}, node: {{gpus: 0, cpu: 1, memory_gib: 2, shared_memory_gib: 1}}}}
"""
AWAY = ("--tracking", "http://127.0.0.1:9")


@pytest.fixture
def registry(
    kubeconfigs: dict[str, Path], real_cluster: Cluster, namespace: str, tmp_path: Path, work: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Registry]:  # fmt: skip
    """A user with a profile, on a cluster whose pods are played; versions 1 and 3 come up, 2 does not."""
    path = tmp_path / ".lapa" / "clusters" / "default.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE.format(namespace=namespace, digest="0" * 64))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAPA_CLUSTER", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfigs["admin"]))
    monkeypatch.setattr("lapactl.deploy.end_cleanly", lambda: None)  # the handler would be pytest's
    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.1)
    monkeypatch.setattr("lapactl.registry.WAIT_SECONDS", 0.2)
    found = Registry.open(TrackingConfig(), store=str(work), wait_seconds=5)
    for version in (1, 2, 3):
        url = f"s3://robots/{BROKEN if version == 2 else 'fine'}-{version}"
        found.register("arm", url, digest=f"{version:064x}", inputs={}, verify=lambda _: None)
    found.set_alias("arm", "production", 1)
    with running_controller(real_cluster, namespace):
        yield found


def lapactl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def rows(*arguments: object) -> Any:
    result = lapactl(*arguments, "--output", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_version_goes_to_the_cluster_a_broken_one_does_not_and_a_rollback_needs_no_registry(
    registry: Registry,
    real_cluster: Cluster,
    namespace: str,
    work: Path,  # noqa: F811
) -> None:
    at = ("--work", work)
    started = rows("deploy", "arm@production", "--no-check", *at)
    assert (started["state"], started["address"]) == ("switched", f"ws://arm.{namespace}:8000")
    unread = lapactl("deploy", "arm/3", *at)
    assert unread.exit_code != 0 and "Nothing was started" in unread.stderr, "the bundle cannot be read from here"

    registry.set_alias("arm", "production", 2)
    failed = lapactl("deploy", "sync", "--all", *at)
    assert failed.exit_code == 32 and "PolicyError: s3://robots/broken-2 has digest 12" in failed.stderr
    (row,) = rows("deploy", "status", *at)
    assert (row["state"], row["actual"]["version"], row["health"]) == ("drift", 1, "ready")
    assert row["failed"]["times"] == 1 and row["retry_at"] is not None
    assert len(real_cluster.select(DEPLOYMENT, namespace)) == 1, "nothing of the broken version is left"

    registry.set_alias("arm", "production", 3)
    assert rows("deploy", "sync", "--all", *at)[0]["version"] == 3
    back = rows("deploy", "rollback", "arm", "--reason", "drops the block")
    assert (back["state"], back["version"], back["replaced"]) == ("switched", 1, 3)
    assert lapactl("deploy", "sync", "--all", *AWAY).exit_code == 7
    (row,) = rows("deploy", "status", *AWAY)
    assert (row["state"], row["actual"]["version"], row["namespace"]) == ("unknown", 1, namespace)
    assert rows("deploy", "delete", "arm", "--yes")["state"] == "deleted"
    assert real_cluster.select(SERVICE, namespace) == real_cluster.select(DEPLOYMENT, namespace) == []


@pytest.mark.usefixtures("registry")
def test_a_cluster_without_kserve_and_a_user_without_rights_are_told_so(
    work: Path,  # noqa: F811
    kubeconfigs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common = ("deploy", "arm", "--no-check", "--work", work)
    missing = lapactl(*common, "--target", "kserve")
    assert missing.exit_code == 23 and "ask the platform team for KServe" in missing.stderr
    monkeypatch.setenv("KUBECONFIG", str(kubeconfigs["stranger"]))
    denied = lapactl(*common)
    assert denied.exit_code == 22 and "lapa-deployer" in denied.stderr
