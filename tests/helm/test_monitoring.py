"""Alerts fire when they should and only then, link to a page that is there, and read metrics that somebody exports."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from helm_chart import OPERATORS, one, render
from prometheus_client import CollectorRegistry
from real_api import program

from lapa.serving.metrics import Metrics
from lapa.training.metrics_server import TrainingMetrics

ALERT_TESTS = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))

EXPORTED = {
    # kube-state-metrics
    "kube_pod_info",
    "kube_pod_status_phase",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_status_last_terminated_exitcode",
    "kube_pod_container_status_last_terminated_reason",
    "kube_deployment_status_replicas_available",
    # kubelet
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_transmit_bytes_total",
    "kubelet_volume_stats_capacity_bytes",
    "kubelet_volume_stats_used_bytes",
    # dcgm-exporter
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    # MLflow 3.17
    "mlflow_http_request_duration_seconds_bucket",
    "mlflow_http_request_duration_seconds_count",
    # Prometheus
    "ALERTS",
    # our own rules
    "lapa:gpu_engine_active:avg",
    "lapa:gpu_tensor_active:avg",
    "lapa:pod_job:info",
}
"""What runs beside the jobs exports today."""
METRIC = re.compile(
    r"\b(?:(?:kube|kubelet|container|mlflow|lapa)_[a-z_]+|lapa:[a-z_:]+|DCGM_[A-Z_]+|ALERTS)\b(?=[{\[\s)]|$)"
)
LABELS = {"lapa_job", "lapa_dev_job", "lapa_dev_deployment", "lapa_dev_release"}


def rules(*settings: str, profile: str = "production") -> dict:
    return one(render(profile, settings=settings, apis=OPERATORS), "PrometheusRule", "lapa")["spec"]


def alerts(*settings: str) -> list[dict]:
    return [rule for group in rules(*settings)["groups"] for rule in group["rules"] if "alert" in rule]


def metrics_of(expression: str) -> set[str]:
    return set(METRIC.findall(re.sub(r'"[^"]*"', '""', expression))) - LABELS


@pytest.fixture
def promtool() -> str:
    return program("promtool", made_by="fetch_promtool.sh", kept_in="promtool")


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.cluster
def test_the_rules_are_rules(promtool: str, tmp_path: Path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    done = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.cluster
def test_the_check_notices_a_rule_that_is_none(promtool: str, tmp_path: Path):
    broken = rules()["groups"][0]["rules"][0]["expr"].rstrip()[:-1]
    group = {"name": "broken", "rules": [{"record": "a:b", "expr": broken}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    assert run(promtool, "check", "rules", "rules.yaml", folder=tmp_path).returncode != 0


@pytest.mark.cluster
@pytest.mark.parametrize("path", ALERT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path, promtool: str, tmp_path: Path):
    # One signal per file: the two ways to see a stalled job have one name.
    groups = [group for group in rules()["groups"] if group["name"] in ("lapa-jobs", f"lapa-{path.stem}")]
    if path.stem == "workloads":
        groups = [group for group in groups if group["name"] == "lapa-workloads"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    (tmp_path / path.name).write_text(path.read_text())
    done = run(promtool, "test", "rules", path.name, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_to_fire_and_not_to():
    cases = [
        case
        for path in ALERT_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {rule["alert"] for rule in alerts()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names


def test_every_alert_links_to_a_runbook_and_every_runbook_has_an_alert(repository: Path):
    linked = {rule["annotations"]["runbook_url"].rsplit("/", 1)[1] for rule in alerts()}
    assert linked == {path.name for path in (repository / "docs" / "runbooks").glob("*.md")}
    for rule in alerts():
        page = rule["annotations"]["runbook_url"].rsplit("/", 1)[1]
        assert rule["alert"] in (repository / "docs" / "runbooks" / page).read_text(), page


def test_every_alert_says_what_how_bad_and_where_to_read_on():
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule["alert"]
        assert rule["alert"].startswith("Lapa")


def test_nothing_is_left_to_fill_in_and_the_namespace_is_the_releases():
    text = yaml.safe_dump(rules())
    assert not re.search(r"NAMESPACE|RUNBOOKS|MLFLOW", text)
    assert 'namespace="robotics"' in text
    links = yaml.safe_dump(rules(profile="air-gapped"))
    assert "https://wiki.internal/lapa/runbooks/mlflow-down.md" in links


def read_by(group: str) -> set[str]:
    return set().union(
        *(metrics_of(rule["expr"]) for found in rules()["groups"] if found["name"] == group for rule in found["rules"])
    )


def exported_by(registry: CollectorRegistry) -> set[str]:
    """The series that a scrape gives, labels aside; those with labels have no sample before their first use."""
    suffixes = {"counter": ("_total",), "gauge": ("",), "summary": ("_sum", "_count")}
    suffixes["histogram"] = ("_sum", "_count", "_bucket")
    return {family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]}


def test_alerts_read_what_is_exported():
    assert read_by("lapa-workloads") <= exported_by(TrainingMetrics().registry)
    assert read_by("lapa-servers") <= exported_by(Metrics().registry)
    beside = {group["name"] for group in rules()["groups"]} - {"lapa-workloads", "lapa-servers"}
    for group in ("lapa-workloads", "lapa-servers", *beside):
        assert read_by(group), group
    assert set().union(*map(read_by, beside)) <= EXPORTED


def test_groups_come_and_go_with_what_they_watch():
    names = [group["name"] for group in rules()["groups"]]
    assert names == ["lapa-gpus", "lapa-jobs", "lapa-mlflow", "lapa-servers", "lapa-workloads"]
    without = rules("monitoring.rules.gpus=false", "mlflow.enabled=false", "monitoring.rules.servers=false")
    assert [group["name"] for group in without["groups"]] == ["lapa-jobs", "lapa-workloads"]
    assert [group["name"] for group in rules("monitoring.rules.workloads=false")["groups"]] == names[:-1]


def dashboards() -> dict[str, dict]:
    objects = render("dev", apis=OPERATORS)
    maps = [item for item in objects if "dashboard" in item["metadata"]["name"]]
    assert all(item["metadata"]["labels"]["grafana_dashboard"] == "1" for item in maps)
    return {name: json.loads(text) for item in maps for name, text in item["data"].items()}


def test_dashboards_are_whole_and_have_names_of_their_own():
    found = dashboards()
    assert set(found) == {"jobs.json", "servers.json", "tracking.json"}
    assert len({board["uid"] for board in found.values()}) == len(found)
    for board in found.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids)) >= 6
        for panel in board["panels"]:
            assert panel["title"] and panel["targets"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_panels_do_not_overlap():
    for board in dashboards().values():
        cells = [
            (x, y)
            for panel in board["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_dashboards_draw_only_what_is_exported():
    exported = EXPORTED | exported_by(TrainingMetrics().registry) | exported_by(Metrics().registry)
    for name, board in dashboards().items():
        queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        for query in queries:
            used = metrics_of(query)
            assert used and used <= exported, (name, used - exported)


@pytest.mark.cluster
def test_panels_queries_are_promql(promtool: str, tmp_path: Path):
    queries = [
        target["expr"] for board in dashboards().values() for panel in board["panels"] for target in panel["targets"]
    ]
    recorded = [{"record": f"panel:number{index}", "expr": query} for index, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    done = run(promtool, "check", "rules", "rules.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_of_a_server_that_asks_for_a_password_are_read_with_one():
    secured = one(render("production", apis=OPERATORS), "PodMonitor", "lapa-mlflow")["spec"]["podMetricsEndpoints"]
    assert secured[0]["basicAuth"]["password"] == {"name": "mlflow-auth", "key": "password"}
    opened = one(render("dev", apis=OPERATORS), "PodMonitor", "lapa-mlflow")["spec"]["podMetricsEndpoints"]
    assert "basicAuth" not in opened[0]
