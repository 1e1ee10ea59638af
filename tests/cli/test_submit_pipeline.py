"""`lapactl submit pipeline`, without a cluster and against a fake one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_api import FakeApi, running_fake_api

from lapa_k8s.names import JOB_LABEL, MANAGED_LABELS

PROFILE = """
namespace: team
images: {train: "registry.example/lapa-train:1"}
tracking: {uri: "https://mlflow.example"}
settings:
  work_url: memory://work
  videos: {kind: dataset, url: "memory://videos"}
  robot: null
  finetune: null
  pretrain.stream.lanes: 128
  pretrain.fit.batch_size: 256
"""
STAGES = ["ingest", "laq", "label", "pretrain"]


@pytest.fixture(autouse=True)
def fake_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """A project with a profile; nothing of any stage is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LAPA_CLUSTER", "prod")
    path = tmp_path / "config" / "lapa" / "clusters" / "prod.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE)
    monkeypatch.setattr("lapactl.submit_pipeline.inputs_of", lambda run, stage: {})
    monkeypatch.setattr("lapactl.submit_pipeline.unchanged", lambda run, stage: None)
    with running_fake_api(tmp_path) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield api


def plan(text: str) -> list[dict[str, Any]]:
    """The stages' jobs of a dry run."""
    config_map, job = yaml.safe_load_all(text)
    assert job["kind"] == "Job"
    return [step["job"] for step in json.loads(config_map["data"]["pipeline.json"])]


def stages(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["metadata"]["labels"]["lapa.dev/stage"] for job in jobs]


def test_a_dry_run_needs_no_cluster_and_holds_every_stage(lapactl, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", "nowhere")
    result = lapactl("submit", "pipeline", "--nodes", 2, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert stages(plan(result.stdout)) == STAGES
    assert "pretrain asks for 2 nodes, 8 GPUs each, 16 in all" in result.stderr


def test_a_pipeline_may_begin_and_end_where_one_likes(lapactl):
    result = lapactl("submit", "pipeline", "--from", "laq", "--to", "label", "--dry-run")
    assert stages(plan(result.stdout)) == ["laq", "label"]


def test_stages_have_nodes_of_their_own(lapactl):
    result = lapactl("submit", "pipeline", "--nodes", 2, "--nodes", "pretrain=4", "--dry-run")
    jobs = dict(zip(STAGES, plan(result.stdout), strict=True))
    replicas = {
        stage: job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"]
        for stage, job in jobs.items()
        if job["kind"] == "PyTorchJob"
    }
    assert replicas == {"laq": 2, "label": 2, "pretrain": 4}
    assert jobs["ingest"]["spec"]["completions"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "pretrain", "--to", "laq"), "comes after"),
        (("--from", "evaluate"), "has no such stage"),
        (("--from", "pretrian"), "is not a stage"),
        (("--nodes", "many"), "no number of machines"),
        (("--nodes", "0"), "would start nothing"),
        (("--nodes", "evaluate=2"), "has no such stage"),
        (("--step-seconds", "3"), "for one stage"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_sent(lapactl, fake_api, options: tuple[str, ...], words: str):
    result = lapactl("submit", "pipeline", *options)
    assert result.exit_code == 2, result.stderr
    assert words in result.stderr
    assert fake_api.objects == {}


def test_an_ingest_of_a_pipeline_may_have_several_pods(lapactl):
    result = lapactl("submit", "pipeline", "--nodes", "ingest=3", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "LAPA_INGEST_NODES" in result.stdout and '"completions": 3' in result.stdout


@pytest.mark.parametrize("options", [("--from", "laq"), ("--to", "laq"), ("--nodes", "laq=2")])
def test_options_of_pipelines_are_refused_for_one_stage(lapactl, options: tuple[str, ...]):
    result = lapactl("submit", "laq", *options)
    assert result.exit_code == 2
    assert "pipeline" in result.stderr


def test_a_submission_is_one_job_and_its_plan_and_no_stage_yet(lapactl_json, fake_api):
    made = lapactl_json("submit", "pipeline", "--nodes", 2)
    assert made["created"] is True
    assert [item["stage"] for item in made["stages"]] == STAGES
    assert [path.split("/namespaces/team/")[1] for path in fake_api.objects] == [
        f"configmaps/{made['job']}",
        f"jobs/{made['job']}",
    ]
    assert lapactl_json("submit", "pipeline", "--nodes", 2)["created"] is False
    assert lapactl_json("submit", "pipeline", "--nodes", 2, "--new")["job"] != made["job"]


def test_what_is_made_is_not_submitted_again(lapactl_json, fake_api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "lapactl.submit_pipeline.unchanged", lambda run, stage: object() if stage in ("ingest", "laq") else None
    )
    made = lapactl_json("submit", "pipeline")
    assert [item["job"] is None for item in made["stages"]] == [True, True, False, False]
    monkeypatch.setattr("lapactl.submit_pipeline.unchanged", lambda run, stage: object())
    assert lapactl_json("submit", "pipeline", "--nodes", 4) == {"stages": STAGES, "created": False}


def test_a_stage_that_failed_before_with_this_content_stops_the_pipeline(lapactl, lapactl_json, fake_api):
    first = lapactl_json("submit", "pipeline")
    plan_of = fake_api.objects[f"/api/v1/namespaces/team/configmaps/{first['job']}"]["data"]["pipeline.json"]
    laq = json.loads(plan_of)[1]["job"]
    fake_api.objects.clear()
    laq["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    fake_api.put(f"/apis/kubeflow.org/v1/namespaces/team/pytorchjobs/{laq['metadata']['name']}", laq)
    result = lapactl("submit", "pipeline")
    assert result.exit_code == 28
    assert "--new" in result.stderr
    assert len(fake_api.objects) == 1


def submitted(lapactl_json, api: FakeApi) -> tuple[str, dict[str, Any]]:
    """A pipeline that runs, and its second stage's job."""
    made = lapactl_json("submit", "pipeline")
    data = api.objects[f"/api/v1/namespaces/team/configmaps/{made['job']}"]["data"]
    laq = json.loads(data["pipeline.json"])[1]["job"]
    labels = {**MANAGED_LABELS, JOB_LABEL: made["job"]}
    pod = {"metadata": {"labels": labels}, "spec": {}, "status": {"phase": "Running"}}
    api.put(f"/api/v1/namespaces/team/pods/{made['job']}-0", pod)
    api.put(f"/apis/kubeflow.org/v1/namespaces/team/pytorchjobs/{laq['metadata']['name']}", laq)
    return made["job"], laq


def test_the_list_shows_the_pipeline_with_the_stage_that_it_is_at(lapactl_json, fake_api):
    name, laq = submitted(lapactl_json, fake_api)
    rows = {row["job"]: row for row in lapactl_json("jobs", "list")}
    assert rows[name]["stage"] == "pipeline"
    assert rows[name]["reason"] == "stage 2 of 4, laq: pending"
    assert rows[laq["metadata"]["name"]]["pipeline"] == name
    assert [row["job"] for row in lapactl_json("jobs", "list", "--stage", "pipeline")] == [name]
    shown = lapactl_json("jobs", "show", name)
    assert [item["stage"] for item in shown["stages"]] == STAGES


def test_why_of_a_pipeline_is_why_of_its_stage(lapactl, lapactl_json, fake_api):
    name, laq = submitted(lapactl_json, fake_api)
    said = lapactl("jobs", "why", name).stdout
    assert f"it is at stage laq, job {laq['metadata']['name']}" in said


def test_cancelling_a_pipeline_stops_its_stage_too(lapactl_json, fake_api):
    name, laq = submitted(lapactl_json, fake_api)
    done = lapactl_json("jobs", "cancel", name, "--yes")
    assert done["stages"] == [laq["metadata"]["name"]]
    assert lapactl_json("jobs", "list") == []


def test_an_estimate_of_hours_needs_a_measured_step(lapactl):
    command = ("submit", "pretrain", "--nodes", 2, "--set", "pretrain.fit.steps=3600", "--dry-run")
    assert "not known here" in lapactl(*command).stderr
    said = lapactl(*command, "--step-seconds", 2).stderr
    assert "2h 00m, 32.0 GPU hours" in said
    assert "3,600 steps of 256 samples, 16 per process" in said
