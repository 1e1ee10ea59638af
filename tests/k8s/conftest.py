"""A fake API server per test, and a client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_api import FakeApi, running_fake_api

from lapa_k8s import client
from lapa_k8s.client import Cluster


@pytest.fixture
def fake_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(client, "PATIENCE", (0.01, 0.01))
    with running_fake_api(tmp_path) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield api


@pytest.fixture
def cluster(fake_api: FakeApi) -> Cluster:
    return Cluster.connect()
