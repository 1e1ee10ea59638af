"""The chart on a real API server: every profile is installed, brought up to date and removed. `pytest -m cluster`."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_requests import Api
from helm_chart import PROFILES
from installed_chart import Place, Release

from lapa_k8s.client import Cluster

pytestmark = pytest.mark.cluster

TOO_NEW = {"policy/v1": "Kubernetes 1.21 brought it"}
"""APIs that the chart asks for and the server that tests build has not; its schemas are checked elsewhere."""
MLFLOW = ("apps", "deployments", "lapa-mlflow")
UPGRADES = {
    "mlflow.resources.limits.memory=3Gi": {MLFLOW},
    "mlflow.service.port=5001": {
        MLFLOW,
        ("", "services", "lapa-mlflow"),
        ("networking.k8s.io", "networkpolicies", "lapa-jobs"),
        ("networking.k8s.io", "networkpolicies", "lapa-mlflow"),
    },
    "networkPolicies.dns.namespace=dns": {("networking.k8s.io", "networkpolicies", "lapa-dns")},
    "trainingRuntime.maxRestarts=5": {("trainer.kubeflow.org", "trainingruntimes", "lapa-torch")},
}
"""A changed value, and the objects that it is about."""


@pytest.fixture
def release(real_cluster: Cluster, kubeconfigs: dict[str, Path], namespace: str) -> Iterator[Release]:
    made = Release(Api(kubeconfigs["admin"]), namespace)
    yield made
    made.remove()


@pytest.mark.parametrize("profile", PROFILES)
def test_the_server_takes_every_object_whole_but_those_whose_api_it_has_not(profile: str, release: Release):
    stored = release.install(profile)
    for place, body in release.sent().items():
        assert lost(body, stored[place]) == [], place
    assert set(release.left_out.values()) <= set(TOO_NEW), release.left_out
    if release.left_out:
        assert (profile, set(release.left_out)) == ("production", {"PodDisruptionBudget/lapa-mlflow"})


def lost(sent: Any, stored: Any, where: str = "") -> list[str]:
    """What was sent and is not in what is stored; what the server fills in is no loss."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        return [item for key, value in sent.items() for item in lost(value, stored.get(key), f"{where}.{key}")]
    if isinstance(sent, list) and isinstance(stored, list) and len(sent) == len(stored):
        pairs = enumerate(zip(sent, stored, strict=True))
        return [item for index, (one, other) in pairs for item in lost(one, other, f"{where}[{index}]")]
    return [] if sent == stored or (not sent and not stored) else [where]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_values_again_change_nothing(profile: str, release: Release):
    assert release.install(profile) == release.install(profile)


@pytest.mark.parametrize("setting", UPGRADES)
@pytest.mark.parametrize("profile", PROFILES)
def test_an_upgrade_changes_what_the_value_is_about_and_nothing_else(profile: str, setting: str, release: Release):
    before = release.install(profile)
    after = release.install(profile, setting)
    assert before.keys() == after.keys()
    changed = {(place.group, place.plural, place.name) for place in after if after[place] != before[place]}
    assert changed == UPGRADES[setting]


def test_what_a_value_switches_off_is_removed_and_the_rest_left_alone(release: Release):
    before = release.install("production")
    after = release.install("production", "access.pipeline.create=false", "mlflow.database.upgrade=false")
    assert {(place.plural, place.name) for place in before.keys() - after.keys()} == {
        ("serviceaccounts", "lapa-pipeline"),
        ("roles", "lapa-pipeline"),
        ("rolebindings", "lapa-pipeline"),
        ("networkpolicies", "lapa-pipelines"),
    }
    deployment = Place("apps", "deployments", release.namespace, "lapa-mlflow")
    assert [place for place in after if after[place] != before[place]] == [deployment]
    assert "initContainers" in before[deployment]["spec"]["template"]["spec"]
    assert "initContainers" not in after[deployment]["spec"]["template"]["spec"]


@pytest.mark.parametrize("profile", PROFILES)
def test_of_a_removed_release_nothing_remains(profile: str, release: Release):
    before = release.everything()
    release.install(profile)
    made = release.everything() - before
    assert len(made) >= len(release.sent()) > 10
    release.remove()
    deadline = time.monotonic() + 600
    while (rest := release.everything() - before) and time.monotonic() < deadline:
        release.let_go_of_volumes()
        time.sleep(0.2)
    assert rest == set()
