"""Pods of the chart meet the restricted Pod Security level, run named images, and reach only what they need."""

import kubernetes_validate
import pytest
from deployment_specs import GOLDEN as DEPLOYMENTS
from helm_chart import OPERATORS, PROFILES, one, pods_of, render
from job_specs import GOLDEN
from typer.testing import CliRunner

from lapa_k8s.rendering.pods import pod_labels
from lapa_k8s.rendering.policy_server import deployment_labels
from lapactl.main import app

VOLUME_KINDS = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
"""Those of the restricted level that the chart uses."""


def containers(pod: dict) -> list[dict]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_pod_meets_the_restricted_level_and_more(profile: str):
    reconciling = ("reconciler.enabled=true", "reconciler.trackingSecret=mlflow-reader")
    pods = pods_of(render(profile, apis=OPERATORS, settings=reconciling))
    assert pods
    for name, pod in pods.items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is (name == "lapa-reconciler"), name
        assert spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= VOLUME_KINDS, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert not [port for port in container.get("ports", []) if "hostPort" in port], name


@pytest.mark.parametrize("profile", PROFILES)
def test_secrets_come_by_reference_only(profile: str):
    for name, pod in pods_of(render(profile)).items():
        for container in containers(pod):
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("SECRET", "PASSWORD", "ACCESS_KEY")):
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}, (name, variable["name"])


def test_a_digest_wins_over_the_tag_and_a_mirror_over_the_registry():
    mlflow = pods_of(render("production"))["lapa-mlflow"]
    assert containers(mlflow)[0]["image"].startswith("ghcr.io/mlflow/mlflow@sha256:")
    images = [
        container["image"]
        for pod in pods_of(render("air-gapped", apis=OPERATORS)).values()
        for container in containers(pod)
    ]
    assert len(images) == 2
    assert all(image.startswith("mirror.internal:5000/") and "@sha256:" in image for image in images)


def test_nothing_comes_from_where_images_are_no_longer_kept_up():
    images = [container["image"] for pod in pods_of(render("dev")).values() for container in containers(pod)]
    assert images == ["ghcr.io/mlflow/mlflow:v3.17.2-full", "docker.io/chrislusf/seaweedfs:4.48"]


def test_mlflow_loads_no_pickles_tells_nobody_and_answers_to_its_own_names_only():
    container = containers(pods_of(render("production"))["lapa-mlflow"])[-1]
    variables = {item["name"]: item.get("value") for item in container["env"]}
    assert variables["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "true"
    hosts = variables["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {"lapa-mlflow:5000", "lapa-mlflow.robotics.svc:5000", "mlflow.example.com", "localhost:*"} <= set(hosts)
    assert "*" not in hosts
    assert "--app-name=basic-auth" in container["args"]
    assert not [item for item in container["args"] if "://" in item and "s3://" not in item]


def test_sqlite_is_never_served_twice():
    dev = one(render("dev"), "Deployment", "lapa-mlflow")["spec"]
    assert dev["replicas"] == 1 and dev["strategy"] == {"type": "Recreate"}
    production = one(render("production"), "Deployment", "lapa-mlflow")["spec"]
    assert production["replicas"] == 2 and production["strategy"] == {"type": "RollingUpdate"}


def test_several_servers_are_not_drained_at_once_and_a_single_one_can_be():
    assert one(render("production"), "PodDisruptionBudget", "lapa-mlflow")["spec"]["maxUnavailable"] == 1
    assert not [item for item in render("dev") if item["kind"] == "PodDisruptionBudget"]


def test_where_the_platform_chooses_the_user_none_is_set():
    pod = pods_of(render("dev", settings=("mlflow.user=null",)))["lapa-mlflow"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["spec"]["securityContext"])


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_job_inside_the_training_runtime_is_a_job(version: str):
    runtime = one(render("production", apis=OPERATORS), "TrainingRuntime", "lapa-torch")
    [job] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    template = job["template"]
    labels = {"template": {**template["spec"]["template"], "metadata": {"labels": {"a": "b"}}}}
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", **template["metadata"]},
        "spec": {**template["spec"], **labels},
    }
    kubernetes_validate.validate(manifest, version, strict=True)
    assert "ttlSecondsAfterFinished" not in template["spec"]
    assert "ttlSecondsAfterFinished" not in runtime["spec"]["template"]["spec"]


def policies(profile: str, *settings: str) -> dict[str, dict]:
    objects = render(profile, settings=settings)
    return {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "NetworkPolicy"}


def test_everything_is_cut_off_first():
    denied = policies("dev")["lapa-default-deny"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies("dev", "networkPolicies.enabled=false") == {}


def test_an_air_gapped_namespace_reaches_its_own_s3_and_database_and_nothing_else():
    found = policies("air-gapped")
    cidrs = {
        name: [peer["ipBlock"]["cidr"] for rule in spec.get("egress", []) for peer in rule["to"] if "ipBlock" in peer]
        for name, spec in found.items()
    }
    assert cidrs == {
        "lapa-default-deny": [],
        "lapa-dns": ["169.254.20.10/32"],
        "lapa-jobs": ["10.1.0.0/24"],
        "lapa-mlflow": ["10.1.0.0/24", "10.1.1.0/24"],
        "lapa-pipelines": ["10.0.0.0/24"],
        "lapa-servers": [],
    }


def test_the_clouds_metadata_service_is_out_of_reach():
    [block] = [
        peer["ipBlock"] for rule in policies("dev")["lapa-jobs"]["egress"] for peer in rule["to"] if "ipBlock" in peer
    ]
    assert block == {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}


def test_nobody_but_jobs_mlflow_and_named_namespaces_calls_mlflow_and_s3():
    found = policies("dev", "networkPolicies.clientNamespaces={ingress-nginx}", "networkPolicies.monitoringNamespace=")
    jobs = {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "lapa", "app.kubernetes.io/managed-by": "lapactl"}}
    }
    clients = [jobs, {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]
    assert found["lapa-mlflow"]["ingress"] == [{"from": clients, "ports": [{"protocol": "TCP", "port": 5000}]}]
    [rule] = found["lapa-s3"]["ingress"]
    assert rule["from"][:-1] == clients
    assert rule["from"][-1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "mlflow"
    assert "egress" not in found["lapa-s3"]


def selected(policy: dict, labels: dict[str, str]) -> bool:
    return policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_robots_reach_policy_servers_from_where_the_values_say_and_nothing_else_of_the_namespace():
    settings = (
        "networkPolicies.servers.namespaces={ingress-nginx}",
        "networkPolicies.servers.networks.lab.cidr=10.7.0.0/16",
        "networkPolicies.monitoringNamespace=",
    )
    servers = policies("dev", *settings)["lapa-servers"]
    ingress = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    assert servers["ingress"] == [
        {"from": [ingress, {"ipBlock": {"cidr": "10.7.0.0/16"}}], "ports": [{"protocol": "TCP", "port": "http"}]}
    ]
    server = deployment_labels(DEPLOYMENTS["policy"])
    assert selected(servers, server) and not selected(servers, pod_labels(GOLDEN["pretrain"]))
    # Without anybody to let in there is no rule at all: an empty list of peers would let everybody in.
    assert "lapa-servers" not in policies("dev", "networkPolicies.monitoringNamespace=")


def test_the_reconciler_reaches_the_api_server_and_the_registry_and_runs_what_lapactl_calls_sync():
    objects = render("dev", settings=("reconciler.enabled=true",))
    policy = one(objects, "NetworkPolicy", "lapa-reconciler")["spec"]
    assert [[port["port"] for port in rule["ports"]] for rule in policy["egress"]] == [[5000], [443, 6443]]
    pod = pods_of(objects)["lapa-reconciler"]
    assert selected(policy, pod["metadata"]["labels"])
    callers = one(objects, "NetworkPolicy", "lapa-mlflow")["spec"]["ingress"][0]["from"]
    assert any(selected(caller, pod["metadata"]["labels"]) for caller in callers if "podSelector" in caller)
    [container] = pod["spec"]["containers"]
    assert container["command"] == ["lapactl", "deploy", "sync", "--all"]
    assert "--tracking=http://lapa-mlflow.robotics.svc:5000" in container["args"]
    asked = [*container["command"][1:], *container["args"], "--help"]
    assert CliRunner().invoke(app, asked).exit_code == 0


def test_the_reconcilers_registry_may_be_elsewhere():
    elsewhere = ("reconciler.enabled=true", "reconciler.trackingUri=https://mlflow.example.com")
    objects = render(settings=(*elsewhere, "reconciler.trackingSecret=reader"))
    [container] = pods_of(objects)["lapa-reconciler"]["spec"]["containers"]
    assert {item["name"] for item in container["env"]} > {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    egress = one(objects, "NetworkPolicy", "lapa-reconciler")["spec"]["egress"]
    assert [port["port"] for rule in egress for port in rule["ports"]] == [443, 6443, 443]
