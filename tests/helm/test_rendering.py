"""Every profile renders into objects that Kubernetes takes, and `helm uninstall` takes all of them away."""

import os
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from helm_chart import CHART, NAMESPACE, OPERATORS, PROFILES, HelmRefused, helm, one, render, template, values_of

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = ("1.29", "1.31", "1.34", "1.37")
"""Of Kubernetes: the chart's oldest, Trainer's oldest, and newer ones."""
BUILT_IN_GROUPS = ("v1", "apps", "policy", "networking.k8s.io", "rbac.authorization.k8s.io")
CLUSTER_KINDS = ("ClusterQueue", "ResourceFlavor")


def is_built_in(item: dict) -> bool:
    return item["apiVersion"].split("/")[0] in BUILT_IN_GROUPS


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_lint_finds_nothing(profile: str | None):
    values = ["--values", str(values_of(profile))] if profile else []
    helm("lint", "--strict", str(CHART), *values)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_built_in_kinds_are_valid_to_the_letter(profile: str | None, version: str):
    found = [item for item in render(profile, apis=OPERATORS) if is_built_in(item)]
    for item in found:
        kubernetes_validate.validate(item, version, strict=True)
    assert found


def test_validation_notices_a_field_that_does_not_exist():
    service = yaml.safe_load(yaml.safe_dump(one(render("dev"), "Service", "lapa-mlflow")))
    service["spec"]["portz"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="portz"):
        kubernetes_validate.validate(service, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_optional_kinds_are_there_where_the_cluster_serves_them_and_only_there(profile: str):
    optional = {"PodMonitor", "PrometheusRule", "TrainingRuntime"}
    assert optional & {item["kind"] for item in render(profile)} == set()
    assert optional <= {item["kind"] for item in render(profile, apis=OPERATORS)}


def test_optional_kinds_can_be_forced_and_forbidden():
    parts = ("trainingRuntime", "monitoring.podMonitors", "monitoring.rules", "monitoring.dashboards")
    always = tuple(f"{part}.create=always" for part in parts)
    never = tuple(f"{part}.create=never" for part in parts)
    kinds = {"PodMonitor", "PrometheusRule", "TrainingRuntime"}
    assert kinds <= {item["kind"] for item in render("dev", settings=always)}
    assert not kinds & {item["kind"] for item in render("dev", settings=never, apis=OPERATORS)}


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_objects_are_in_the_releases_namespace_and_have_names_of_their_own(profile: str | None):
    objects = render(profile, apis=OPERATORS)
    for item in objects:
        expected = None if item["kind"] in CLUSTER_KINDS else NAMESPACE
        assert item["metadata"].get("namespace") == expected, item["metadata"]["name"]
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_uninstalling_leaves_nothing(profile: str | None):
    for item in render(profile, apis=OPERATORS):
        annotations = item["metadata"].get("annotations", {})
        # Neither hooks, which helm forgets, nor volumes that a StatefulSet makes, nor objects told to stay.
        assert not [name for name in annotations if name.startswith("helm.sh/")], item["metadata"]["name"]
        assert item["kind"] not in ("StatefulSet", "Namespace", "CustomResourceDefinition", "Secret")


def test_a_volume_stays_only_where_that_is_asked():
    kept = render("dev", settings=("mlflow.database.volume.retain=true",))
    policy = {
        item["metadata"]["name"]: item["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        for item in kept
        if item["kind"] == "PersistentVolumeClaim"
    }
    assert policy == {"lapa-mlflow": "keep", "lapa-s3": None}


def test_only_queues_reach_beyond_the_namespace_and_only_where_they_are_asked_for():
    assert not [item for item in render(apis=OPERATORS) if item["kind"] in (*CLUSTER_KINDS, "LocalQueue")]
    production = render("production", apis=OPERATORS)
    wide = [item["metadata"]["name"] for item in production if item["kind"] in CLUSTER_KINDS]
    assert sorted(wide) == ["cpu", "h100", "robotics"]
    assert one(production, "ClusterQueue", "robotics")["spec"]["cohortName"] == "research"


def test_an_older_kueue_gets_its_own_version_and_names():
    queue = one(render("production", apis=("kueue.x-k8s.io/v1beta1",)), "ClusterQueue", "robotics")
    assert queue["apiVersion"] == "kueue.x-k8s.io/v1beta1"
    assert queue["spec"]["cohort"] == "research"


def test_the_dev_profile_is_what_it_was():
    golden = GOLDEN / "dev.yaml"
    rendered = template("dev", apis=OPERATORS)
    if os.environ.get("LAPA_UPDATE_GOLDEN"):
        golden.write_text(rendered)
    assert rendered == golden.read_text(), "run with LAPA_UPDATE_GOLDEN=1 if the change is meant, and read the diff"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("mlflow.artifacts.destination=", "mlflow.artifacts.destination is empty"),
        ("mlflow.database.kind=postgresql", "mlflow.database.existingSecret is empty"),
        ("mlflow.replicas=2", "SQLite serves one"),
        ("mlflow.auth.enabled=true", "mlflow.auth.existingSecret is empty"),
        ("mlflow.ingress.enabled=true", "mlflow.ingress.host is empty"),
        ("s3.existingSecret=", "s3.existingSecret is empty"),
        ("reconciler.enabled=true,mlflow.enabled=false", "reconciler.trackingUri is empty"),
    ],
)
def test_a_contradiction_ends_in_a_sentence_that_names_the_value(setting: str, words: str):
    with pytest.raises(HelmRefused, match=words):
        template("dev", settings=(setting,))


def test_an_old_cluster_is_refused():
    with pytest.raises(HelmRefused, match="incompatible with Kubernetes"):
        helm("template", "lapa", str(CHART), "--kube-version", "1.28.0")
