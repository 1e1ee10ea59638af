"""A fake API server per test, a real one for all of them, and clients of both."""

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from fake_api import FakeApi, running_fake_api
from real_api import running_real_api

from lapa_k8s import client
from lapa_k8s.client import Cluster
from lapa_k8s.errors import KindNotServed, NameTaken, NotFound
from lapa_k8s.kinds import Kind

CRDS = Path(__file__).parent / "crds"
DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")


@pytest.fixture
def fake_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(client, "PATIENCE", (0.01, 0.01))
    with running_fake_api(tmp_path) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield api


@pytest.fixture
def cluster(fake_api: FakeApi) -> Cluster:
    return Cluster.connect()


@pytest.fixture(scope="session")
def kubeconfigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Of a real API server, by user."""
    with running_real_api(tmp_path_factory.mktemp("api")) as found:
        yield found


@pytest.fixture(scope="session")
def real_cluster(kubeconfigs: dict[str, Path]) -> Cluster:
    """As an administrator, on a server that serves the operators' kinds and Kueue's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfigs["admin"]))
        connected = Cluster.connect()
    definitions = [body for path in CRDS.glob("*.yaml") for body in yaml.safe_load_all(path.read_text())]
    for body in definitions:
        with suppress(NameTaken):  # a cluster of one's own has some of them, or has them since the last time
            connected.post_path(f"/apis/{DEFINITION.api_version}/{DEFINITION.plural}", body)
    for body in definitions:
        group, names = body["spec"]["group"], body["spec"]["names"]
        _wait_until_served(connected, f"/apis/{group}/{body['spec']['versions'][0]['name']}/{names['plural']}")
    return connected


@pytest.fixture
def namespace(real_cluster: Cluster) -> str:
    """A new one for each test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    real_cluster.post_path("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def _wait_until_served(cluster: Cluster, path: str) -> None:
    deadline = time.monotonic() + 600
    while True:
        try:
            cluster.get_path(path)
            return
        except (KindNotServed, NotFound):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
