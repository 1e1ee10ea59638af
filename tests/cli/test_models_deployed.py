"""`lapactl models lineage --contains`: which deployments a dataset is in; real records, a fake cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment_specs import deployment_spec, pinned
from fake_api import FakeApi, running_fake_api, status

from lapa.config.run import TrackingConfig
from lapa.tracking.registry import Registry
from lapa_k8s.deployment_record import Record, Release
from lapa_k8s.names import RECORD_ANNOTATION
from lapa_k8s.rendering.inference_service import inference_service
from lapa_k8s.rendering.policy_server import policy_service
from lapactl.deploy_local import LocalSpec, LocalTarget, local_release
from lapactl.deploy_places import first_release
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)

KITCHEN, OFFICE = "ab" * 32, "cd" * 32


@pytest.fixture(autouse=True)
def registry(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Versions 1 and 2 were made from the kitchen's data, 3 from the office's; of 4 nobody said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    found = Registry.open(TrackingConfig(), store=str(work), wait_seconds=5)
    for version, made_from in {1: KITCHEN, 2: KITCHEN, 3: OFFICE, 4: ""}.items():
        inputs = {"robot": {"url": f"s3://data/{made_from[:2]}", "digest": made_from}} if made_from else {}
        verified = {"digest": pinned(version).digest, "inputs": inputs, "verify": lambda url: None}
        found.register("lapa-policy", str(work / str(version)), **verified)


@pytest.fixture
def contains(lapactl, work: Path):  # noqa: F811
    """The versions and deployments that the kitchen's data is in, and what was said beside."""

    def ask(*options: str, what: str = KITCHEN[:8]) -> tuple[dict[int, list[tuple[str, str]]], str]:
        command = ("models", "lineage", "--contains", what, "--work", work, *options, "--output", "json")
        result = lapactl(*command)
        assert result.exit_code == 0, result.stderr
        rows = json.loads(result.stdout)
        return {row["version"]: [(item["deployment"], item["state"]) for item in row["deployments"]] for row in rows}, (
            result.stderr
        )

    return ask


def deploy_here(state: Path, name: str, *versions: int) -> None:
    """The record of a deployment that served these, one after the other; the one before the last is still warm."""
    made = [pinned(version) for version in versions]
    history = [
        local_release(LocalSpec(name=name), what, first_release(what, follows=None, by="", reason="")) for what in made
    ]
    kept = {release.name: "2099-01-01T00:00:00Z" for release in history[-2:-1]}
    (state / name).mkdir(parents=True)
    LocalTarget(state).write(Record(name=name, history=tuple(history), kept=kept), None)


def test_local_deployments_are_found_by_what_they_serve_and_by_what_is_kept_warm(contains, lapactl, tmp_path, work):  # noqa: F811
    state = tmp_path / "home" / "lapa" / "deployments"
    deploy_here(state, "arm", 3, 1)
    deploy_here(state, "leg", 1, 2, 3)
    deploy_here(state, "new", 4)
    (state / "torn").mkdir()
    (state / "torn" / "record.json").write_text("{")
    found, said = contains()
    assert found == {1: [("arm", "active")], 2: [("leg", "warm")]}
    assert "not known: new serves lapa-policy/4" in said and "not looked at: deployment 'torn'" in said
    assert "not looked at: deployments of a cluster, for no profile is named" in said
    shown = lapactl("models", "lineage", "--contains", "cd", "--work", work).stdout
    assert "leg" in shown and "arm" in shown  # the office's policy is one's present and the other's past


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """With one deployment of ours of version 2, and an InferenceService of version 1."""
    monkeypatch.setattr("lapa_k8s.client.PATIENCE", (0.01,))
    folder = tmp_path / "config" / "lapa" / "clusters"
    folder.mkdir(parents=True)
    (folder / "prod.yaml").write_text("namespace: team\n")
    with running_fake_api(tmp_path) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        api.served |= {"services", "deployments", "inferenceservices"}
        spec = deployment_spec(2, name="arm")
        release = Release(
            name=spec.release, pinned=spec.pinned, at="2026-01-01T00:00:00Z", spec=spec.model_dump(mode="json")
        )
        service = policy_service(spec)
        service["metadata"]["annotations"][RECORD_ANNOTATION] = Record(name="arm", history=(release,)).model_dump_json()
        api.put("/api/v1/namespaces/team/services/arm", service)
        rendered = inference_service(deployment_spec(1, name="kserved"))
        api.put("/apis/serving.kserve.io/v1beta1/namespaces/team/inferenceservices/kserved", rendered)
        yield api


def test_a_cluster_s_deployments_are_found_where_a_profile_is_named(contains, cluster: FakeApi):
    found, said = contains("--cluster", "prod")
    assert found == {1: [("kserved", "active")], 2: [("arm", "active")]}
    assert "not looked at" not in said
    cluster.served.remove("inferenceservices")
    assert contains("--cluster", "prod")[0] == {1: [], 2: [("arm", "active")]}


def test_what_cannot_be_looked_at_is_said_and_the_rest_is_told(contains, cluster: FakeApi, lapactl, monkeypatch):
    cluster.rules.append(lambda method, path, _: status(403, "Forbidden", "no") if "/services" in path else None)
    found, said = contains("--cluster", "prod")
    assert found == {1: [], 2: []} and "not looked at: namespace 'team' of cluster 'prod': you may not read" in said
    monkeypatch.setenv("KUBECONFIG", "nowhere")
    assert (
        "not looked at: namespace 'team' of cluster 'prod': there is no kubeconfig" in contains("--cluster", "prod")[1]
    )
    assert lapactl("models", "lineage", "lapa-policy", "--cluster", "prod").exit_code == 2
    assert lapactl("models", "lineage", "--contains", "x", "--cluster", "prdo").exit_code == 2
