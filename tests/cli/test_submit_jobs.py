"""`lapactl jobs` against a fake cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_objects import NAME, event, job, pending_pod, pod, workload
from fake_api import FakeApi, running_fake_api, status
from job_specs import job_spec

from lapa.config.load import dump_run, load_run
from lapa.config.run import TrackingConfig
from lapa.errors import TrackingError
from lapa_k8s.client import Cluster
from lapa_k8s.names import JOB_LABEL, MANAGED_LABELS, QUEUE_LABEL
from lapa_k8s.parts import Scheduling
from lapa_k8s.rendering.manifests import render

JOBS = "/apis/kubeflow.org/v1/namespaces/team/pytorchjobs"
PODS = "/api/v1/namespaces/team/pods"
CONFIGS = "/api/v1/namespaces/team/configmaps"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/team/workloads"
LOG = ["2026-01-01T00:00:01Z [rank0]: step=7 loss=1", "2026-01-01T00:00:02Z [rank1]: step=7 loss=2"]


@pytest.fixture
def fake_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LAPA_CLUSTER", raising=False)
    with running_fake_api(tmp_path) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield api


def put_job(api: FakeApi, name: str = NAME, **changes) -> dict:
    manifest = job(**changes)
    manifest["metadata"] |= {"name": name, "namespace": "team"}
    return api.put(f"{JOBS}/{name}", manifest)


def put_pod(api: FakeApi, item: dict, lines: list[str] = ()) -> None:
    item["metadata"] |= {"labels": {**MANAGED_LABELS, JOB_LABEL: NAME}}
    api.put(f"{PODS}/{item['metadata']['name']}", item)
    api.logs[item["metadata"]["name"]] = list(lines)


def test_jobs_are_listed_with_their_state(lapactl_json, fake_api):
    put_job(fake_api)
    put_pod(fake_api, pod(0))
    put_pod(fake_api, pod(1))
    put_job(fake_api, "other", conditions={"Succeeded": "done"})
    rows = lapactl_json("jobs", "list")
    assert {row["job"]: row["state"] for row in rows} == {NAME: "running", "other": "succeeded"}
    assert [row["job"] for row in lapactl_json("jobs", "list", "--state", "succeeded")] == ["other"]
    assert lapactl_json("jobs", "list", "--stage", "laq") == []


def test_an_empty_namespace_says_how_to_fill_it(lapactl, fake_api):
    result = lapactl("jobs", "list")
    assert result.exit_code == 0
    assert "lapactl submit" in result.stderr


def test_a_job_is_shown_with_its_pods_and_what_happened(lapactl_json, fake_api):
    uid = put_job(fake_api)["metadata"]["uid"]
    put_pod(fake_api, pod(0, restarts=2))
    fake_api.put("/api/v1/namespaces/team/events/e1", event("Created", "it began", uid))
    fake_api.put("/api/v1/namespaces/team/events/e2", event("Created", "not ours", "another"))
    shown = lapactl_json("jobs", "show", NAME, "--events")
    assert shown["nodes"] == 2
    assert shown["pods"][0]["restarts"] == 2
    assert [item["message"] for item in shown["events"]] == ["it began"]


def test_why_says_one_sentence_and_what_to_do(lapactl, lapactl_json, fake_api):
    put_job(fake_api)
    put_pod(fake_api, pending_pod(0, "0/5 nodes are available: 5 Insufficient nvidia.com/gpu."))
    said = lapactl("jobs", "why", NAME).stdout.splitlines()
    assert len(said) == 2
    assert "nvidia.com/gpu" in said[0]
    assert said[1].startswith("Do: ")
    assert lapactl_json("jobs", "why", NAME)["state"] == "pending"


def test_why_reads_kueue_s_reason_and_the_place_in_the_queue(lapactl_json, fake_api):
    fake_api.served.add("workloads")
    manifest = put_job(fake_api, scheduling=Scheduling(queue="research"))
    manifest["spec"]["runPolicy"]["suspend"] = True
    record = workload("WaitingForQuota", "insufficient unused quota")
    record["metadata"]["ownerReferences"][0]["uid"] = manifest["metadata"]["uid"]
    fake_api.put(f"{WORKLOADS}/w", record)
    pending = {"items": [{"metadata": {"name": "w"}, "positionInLocalQueue": 1}]}
    fake_api.rules.append(lambda _, path, __: (200, pending) if path.endswith("/pendingworkloads") else None)
    assert "queue 'research', 2. in line: its quota is in use" in lapactl_json("jobs", "why", NAME)["why"]


def test_why_does_without_what_may_not_be_read(lapactl_json, fake_api):
    put_job(fake_api)
    put_pod(fake_api, pod(0))
    forbidden = status(403, "Forbidden", "no")
    fake_api.rules.append(lambda _, path, __: forbidden if "events" in path or "workloads" in path else None)
    assert lapactl_json("jobs", "why", NAME)["state"] == "starting"


def test_logs_are_of_all_ranks_or_of_one(lapactl, fake_api):
    put_job(fake_api)
    put_pod(fake_api, pod(0), LOG[:1])
    put_pod(fake_api, pod(1), LOG[1:])
    assert lapactl("jobs", "logs", NAME).stdout.splitlines() == ["[rank 0] step=7 loss=1", "[rank 1] step=7 loss=2"]
    assert lapactl("jobs", "logs", NAME, "--rank", 1).stdout.splitlines() == ["[rank 1] step=7 loss=2"]
    as_json = lapactl("jobs", "logs", NAME, "--output", "json").stdout.splitlines()
    assert [json.loads(line)["rank"] for line in as_json] == [0, 1]


def test_a_digest_is_one_record(lapactl_json, fake_api):
    put_job(fake_api, conditions={"Failed": "too many restarts"})
    end = {"exitCode": 5, "finishedAt": "x", "message": "LossNotFinite: the loss became NaN at step=12"}
    put_pod(fake_api, pod(0, phase="Failed", ended=end))
    digest = lapactl_json("jobs", "digest", NAME)
    assert digest["error"].startswith("LossNotFinite")
    assert digest["last_step"] == 12
    assert digest["endings"][0]["exit_code"] == 5


@pytest.mark.parametrize(("condition", "code"), [("Succeeded", 0), ("Failed", 28)])
def test_waiting_exits_with_the_job_s_outcome(lapactl, fake_api, condition, code):
    put_job(fake_api, conditions={condition: "words"})
    assert lapactl("jobs", "wait", NAME).exit_code == code


def test_waiting_no_longer_than_asked(lapactl, fake_api):
    put_job(fake_api)
    assert lapactl("jobs", "wait", NAME, "--timeout", "1s").exit_code == 30


def test_cancelling_asks_first(lapactl, fake_api):
    put_job(fake_api)
    unanswered = lapactl("jobs", "cancel", NAME)
    assert unanswered.exit_code == 2 and "repeat the command with --yes" in unanswered.stderr
    assert f"{JOBS}/{NAME}" in fake_api.objects
    assert lapactl("jobs", "cancel", NAME, "--yes").exit_code == 0
    assert f"{JOBS}/{NAME}" not in fake_api.objects


@pytest.fixture
def withdrawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Runs that a server was asked to close, and the server; the real one is met in tests/tracking."""
    found: list[tuple[str, str]] = []

    def withdraw(config: TrackingConfig, *, work_url: str, run_id: str) -> None:
        if config.uri == "http://away":
            raise TrackingError(f"run {run_id} could not be closed: no answer")
        found.append((run_id, str(config.uri)))

    monkeypatch.setattr("lapactl.jobs_tracking.withdraw_run", withdraw)
    return found


def put_announced(api: FakeApi, uri: str | None) -> None:
    """A job whose run is open in MLflow, and its configuration."""
    put_job(api, tracking_run_id="run-1")
    run = load_run("tabletop-smoke", [f"tracking.uri={uri}"] if uri else [])
    api.put(f"{CONFIGS}/{NAME}", {"kind": "ConfigMap", "data": {"run.yaml": dump_run(run)}})


def test_a_cancelled_job_s_run_ends_in_mlflow(lapactl, fake_api, withdrawn):
    put_announced(fake_api, "http://mlflow")
    assert lapactl("jobs", "cancel", NAME, "--yes").exit_code == 0
    assert withdrawn == [("run-1", "http://mlflow")]


@pytest.mark.parametrize(("uri", "reason"), [("http://away", "no answer"), (None, "cannot read configmaps")])
def test_a_job_is_cancelled_though_its_run_cannot_be_closed_which_is_said(lapactl, fake_api, withdrawn, uri, reason):
    put_announced(fake_api, uri)
    if uri is None:
        del fake_api.objects[f"{CONFIGS}/{NAME}"]
    result = lapactl("jobs", "cancel", NAME, "--yes")
    assert result.exit_code == 0
    assert f"{JOBS}/{NAME}" not in fake_api.objects
    assert "run-1 as scheduled" in result.stderr
    assert reason in result.stderr


def test_suspending_and_resuming_change_the_job(lapactl, fake_api):
    put_job(fake_api)
    assert lapactl("jobs", "suspend", NAME).exit_code == 0
    assert fake_api.objects[f"{JOBS}/{NAME}"]["spec"]["runPolicy"]["suspend"] is True
    assert lapactl("jobs", "resume", NAME).exit_code == 0
    assert fake_api.objects[f"{JOBS}/{NAME}"]["spec"]["runPolicy"]["suspend"] is False


def test_suggested_commands_name_the_place_that_was_named(lapactl, fake_api):
    put_job(fake_api)
    here = ("--namespace", "team")
    assert f"`lapactl jobs resume {NAME} --namespace team`" in lapactl("jobs", "suspend", NAME, *here).stderr
    assert f"Do: lapactl jobs resume {NAME} --namespace team" in lapactl("jobs", "why", NAME, *here).stdout
    assert "`lapactl jobs list --namespace team` shows" in lapactl("jobs", "show", "other", *here).stderr
    assert f"`lapactl jobs suspend {NAME}`" in lapactl("jobs", "resume", NAME).stderr, "nothing was named"


def test_a_queued_job_is_suspended_through_kueue_which_would_undo_anything_else(lapactl, fake_api):
    fake_api.served.add("workloads")
    manifest = put_job(fake_api, scheduling=Scheduling(queue="research"))
    assert QUEUE_LABEL in manifest["metadata"]["labels"]
    record = workload("Admitted", reserved="True")
    record["metadata"]["ownerReferences"][0]["uid"] = manifest["metadata"]["uid"]
    fake_api.put(f"{WORKLOADS}/w", record)
    assert lapactl("jobs", "suspend", NAME).exit_code == 0
    assert fake_api.objects[f"{WORKLOADS}/w"]["spec"]["active"] is False
    assert "suspend" not in fake_api.objects[f"{JOBS}/{NAME}"]["spec"]["runPolicy"]


def test_a_finished_job_cannot_be_suspended(lapactl, fake_api):
    put_job(fake_api, conditions={"Succeeded": "done"})
    assert lapactl("jobs", "suspend", NAME).exit_code == 20


def test_garbage_is_finished_trainjobs_and_configurations_without_a_job(lapactl, lapactl_json, fake_api):
    labels = {**MANAGED_LABELS, JOB_LABEL: "gone"}
    trainjobs = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs"
    old = "2026-01-01T00:00:00Z"
    for name, conditions in (("done", {"Complete": "x"}), ("running", {})):
        manifest = job("trainjob", conditions=conditions)
        manifest["metadata"] |= {"name": name, "namespace": "team", "creationTimestamp": old}
        fake_api.put(f"{trainjobs}/{name}", manifest)
    put_job(fake_api, conditions={"Succeeded": "has a time to live"})
    fake_api.put(f"{CONFIGS}/gone", {"kind": "ConfigMap", "metadata": {"labels": labels, "creationTimestamp": old}})
    fake_api.put(f"{CONFIGS}/young", {"kind": "ConfigMap", "metadata": {"labels": labels}})
    unattended = lapactl("jobs", "gc")
    assert unattended.exit_code == 2 and "nothing was changed. Say that you are sure: repeat" in unattended.stderr
    assert f"{trainjobs}/done" in fake_api.objects
    removed = lapactl_json("jobs", "gc", "--yes")
    assert [(item["kind"], item["name"]) for item in removed] == [("TrainJob", "done"), ("ConfigMap", "gone")]
    assert f"{trainjobs}/running" in fake_api.objects
    assert f"{CONFIGS}/young" in fake_api.objects


def test_the_run_of_a_submission_that_broke_off_ends_with_its_configuration(lapactl, fake_api, withdrawn):
    run = dump_run(load_run("tabletop-smoke", ["tracking.uri=http://mlflow"]))
    config = render(job_spec(config=run, namespace="team", tracking_run_id="run-1")).config_map
    config["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    fake_api.put(f"{CONFIGS}/{config['metadata']['name']}", config)
    assert lapactl("jobs", "gc", "--yes").exit_code == 0
    assert withdrawn == [("run-1", "http://mlflow")]
    assert fake_api.objects == {}


@pytest.mark.parametrize("command", ["show", "why", "digest", "logs", "wait", "cancel", "suspend", "resume"])
def test_a_job_that_is_not_there_is_told(lapactl, fake_api, command):
    result = lapactl("jobs", command, "nope")
    assert result.exit_code == 26
    assert "'nope'" in result.stderr


@pytest.mark.parametrize(("option", "value"), [("--since", "yesterday"), ("--since", "5 m")])
def test_a_time_that_is_none_is_told(lapactl, fake_api, option, value):
    result = lapactl("jobs", "logs", NAME, option, value)
    assert result.exit_code == 2
    assert "15m" in result.stderr


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pods that commands are run in."""
    found: list[str] = []

    def execute(self: Cluster, namespace: str, name: str, **how: object) -> Iterator[str]:
        found.append(name)
        yield "here\n"

    monkeypatch.setattr(Cluster, "execute", execute)
    return found


def test_a_command_runs_beside_the_rank_that_is_named(lapactl, fake_api, asked):
    put_job(fake_api)
    put_pod(fake_api, pod(0))
    put_pod(fake_api, pod(1))
    for place in ([], ["--node", "1"], ["--rank", "7"], ["--rank", "8"]):
        assert lapactl("jobs", "exec", NAME, *place, "--", "nvidia-smi").stdout == "here\n"
    assert [name.rsplit("-", 1)[1] for name in asked] == ["0", "1", "0", "1"]


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        (("--rank", "16"), 2, "2 nodes and 16 ranks"),
        (("--node", "2"), 2, "--node 2"),
        (("--node", "0", "--rank", "0"), 2, "leave out one"),
        (("--node", "1"), 26, "no running pod"),
    ],
)
def test_a_command_without_a_place_to_run_is_refused(lapactl, fake_api, asked, place, code, words):
    put_job(fake_api)
    put_pod(fake_api, pod(0))
    put_pod(fake_api, pod(1, phase="Failed"))
    result = lapactl("jobs", "exec", NAME, *place, "--", "nvidia-smi")
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
    assert asked == []


def test_a_log_without_lines_says_where_to_look(lapactl, fake_api):
    put_job(fake_api)
    result = lapactl("jobs", "logs", NAME)
    assert result.exit_code == 0
    assert f"lapactl jobs why {NAME}" in result.stderr
