"""The chart and the jobs that lapactl renders agree on names and labels."""

import re

import pytest
import yaml
from deployment_specs import GOLDEN as DEPLOYMENTS
from helm_chart import CHART, OPERATORS, one, pods_of, render
from job_specs import GOLDEN

from lapa_k8s.names import DEPLOYMENT_LABEL, JOB_LABEL, MANAGED_LABELS, RELEASE_LABEL, STAGE_LABEL, job_name
from lapa_k8s.parts import Restarts
from lapa_k8s.pipeline import PIPELINE
from lapa_k8s.profile import ClusterProfile
from lapa_k8s.rendering.indexed_job import FINAL_CODES
from lapa_k8s.rendering.pods import METRICS, pod_labels
from lapa_k8s.rendering.policy_server import release_labels, server_pod
from lapa_k8s.spec import TRAINING_STAGES, RuntimeRef

STAGES = ("ingest", "laq", "label", "pretrain", "finetune", "evaluate")


def selects(selector: dict, labels: dict[str, str]) -> bool:
    return selector["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", GOLDEN)
def test_network_policies_know_the_jobs_pods(name: str):
    policy = one(render("dev"), "NetworkPolicy", "lapa-jobs")["spec"]
    assert selects(policy["podSelector"], pod_labels(GOLDEN[name]))
    assert policy["podSelector"]["matchLabels"] == MANAGED_LABELS


def test_drivers_of_pipelines_reach_the_api_server():
    policy = one(render("dev"), "NetworkPolicy", "lapa-pipelines")["spec"]
    assert policy["podSelector"]["matchLabels"] == {**MANAGED_LABELS, "app.kubernetes.io/component": PIPELINE}
    [rule] = policy["egress"]
    assert [item["port"] for item in rule["ports"]] == [443, 6443]


def test_nothing_of_the_charts_own_is_taken_for_a_job_and_no_job_for_the_charts():
    objects = render("dev")
    jobs = one(objects, "NetworkPolicy", "lapa-jobs")["spec"]["podSelector"]
    for pod in pods_of(objects).values():
        assert not selects(jobs, pod["metadata"]["labels"])
    job = pod_labels(GOLDEN["pretrain"])
    for item in objects:
        if item["kind"] == "Service":
            assert not item["spec"]["selector"].items() <= job.items()
        if item["kind"] == "Deployment":
            assert not selects(item["spec"]["selector"], job)


def test_a_trainjob_finds_the_runtime_its_job_and_its_container():
    wanted = RuntimeRef()
    runtime = one(render(apis=OPERATORS), wanted.kind, wanted.name)
    [job] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    [container] = job["template"]["spec"]["template"]["spec"]["containers"]
    assert (job["name"], container["name"]) == (wanted.job, wanted.container)


def test_the_runtime_gives_pods_as_long_to_save_as_jobs_have_and_fails_on_the_same_codes():
    runtime = one(render(apis=OPERATORS), "TrainingRuntime", "lapa-torch")
    job = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] == Restarts().grace_seconds
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == list(FINAL_CODES)
    assert runtime["spec"]["template"]["spec"]["failurePolicy"]["maxRestarts"] == Restarts().retries


def test_the_images_user_is_the_jobs_user():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["mlflow"]["user"] == values["s3"]["user"] == ClusterProfile().security.user
    assert (
        f"{values['images']['train']['repository']}:{values['images']['train']['tag']}" == ClusterProfile().images.train
    )


def test_targets_of_the_jobs_monitor_carry_the_labels_that_alerts_read():
    monitor = one(render(apis=OPERATORS), "PodMonitor", "lapa-jobs")["spec"]
    assert monitor["podTargetLabels"] == [JOB_LABEL, STAGE_LABEL]
    assert re.sub(r"[^a-zA-Z0-9_]", "_", JOB_LABEL) == "lapa_dev_job"


@pytest.mark.parametrize("name", GOLDEN)
def test_prometheus_may_read_the_pods_that_train_and_no_others(name: str):
    objects = render("dev", apis=OPERATORS)
    monitor = one(objects, "PodMonitor", "lapa-jobs")["spec"]
    labels = pod_labels(GOLDEN[name])
    [expression] = monitor["selector"]["matchExpressions"]
    is_target = selects(monitor["selector"], labels) and labels[expression["key"]] in expression["values"]
    assert is_target == (GOLDEN[name].stage in TRAINING_STAGES)
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == [METRICS["name"]]
    ingress = one(objects, "NetworkPolicy", "lapa-jobs")["spec"]["ingress"]
    opened = [rule for rule in ingress if rule.get("ports")]
    assert [rule["ports"] for rule in opened] == [[{"protocol": "TCP", "port": METRICS["name"]}]]
    [peer] = opened[0]["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_prometheus_finds_policy_servers_under_the_labels_that_dashboards_group_by(name: str):
    monitor = one(render("dev", apis=OPERATORS), "PodMonitor", "lapa-servers")["spec"]
    spec = DEPLOYMENTS[name]
    assert selects(monitor["selector"], release_labels(spec))
    assert not selects(monitor["selector"], pod_labels(GOLDEN["pretrain"]))
    assert monitor["podTargetLabels"] == [DEPLOYMENT_LABEL, RELEASE_LABEL]
    [endpoint] = monitor["podMetricsEndpoints"]
    [port] = server_pod(spec, container="server")["containers"][0]["ports"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")


def test_the_runtime_names_the_port_that_a_trainjob_cannot_name():
    runtime = one(render(apis=OPERATORS), "TrainingRuntime", "lapa-torch")
    pod = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert pod["spec"]["containers"][0]["ports"] == [METRICS]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("attempt", ["", "n2", "worker"])
@pytest.mark.parametrize("suffix", ["worker-0", "worker-17", "node-0-3-x7k2p", "0-x7k2p"])
def test_alerts_read_a_jobs_name_from_its_pods(stage: str, attempt: str, suffix: str):
    rules = one(render(apis=OPERATORS), "PrometheusRule", "lapa")["spec"]["groups"]
    [expression] = [
        rule["expr"] for group in rules for rule in group["rules"] if rule.get("record") == "lapa:pod_job:info"
    ]
    selector, name_pattern = re.findall(r'"(\(?\.\+-[^"]*)"', expression)
    job = job_name("bridge-v2 laq-run", stage, "0123456789abcdef", attempt)
    pod = f"{job}-{suffix}"
    assert re.fullmatch(selector, pod)
    match = re.fullmatch(name_pattern, pod)
    assert match is not None and match[1] == job
