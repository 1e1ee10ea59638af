"""`lapactl submit`, without a cluster and against a fake one."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_api import FakeApi, queue_of, running_fake_api, status

from lapa.config.load import load_run, resolve
from lapa.tracking.announce import AnnouncedRun
from lapa_k8s.base import Manifest
from lapa_k8s.client import Cluster
from lapa_k8s.errors import ClusterUnreachable
from lapa_k8s.kinds import PYTORCHJOB, Kind

PROFILE = """
namespace: team
images: {train: "registry.example/lapa-train:1"}
tracking: {uri: "https://mlflow.example"}
scheduling: {queue: research}
settings:
  work_url: memory://work
  videos: {kind: dataset, url: "memory://videos"}
  robot: null
  finetune: null
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project of a user without profiles, kubeconfig or settings in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.delenv("LAPA_CLUSTER", raising=False)
    return tmp_path


@pytest.fixture
def profile(project: Path) -> Path:
    path = project / "config" / "lapa" / "clusters" / "prod.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE)
    return path


@pytest.fixture
def fake_api(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with running_fake_api(project) as (api, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        api.rules.append(queue_of(gpus=1024))
        yield api


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inputs of every stage are there."""
    monkeypatch.setattr("lapactl.submit_inputs.inputs_of", lambda run, stage: {})
    monkeypatch.setattr("lapactl.submit_inputs.finished", lambda run, stage: None)


def manifests(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def test_the_words_of_our_user_print_manifests_without_a_cluster(lapactl):
    result = lapactl("submit", "pretrain", "--nodes", 8, "--dry-run")
    assert result.exit_code == 0, result.stderr
    config, job = manifests(result.stdout)
    assert job["kind"] == "PyTorchJob"
    assert job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 8
    assert job["spec"]["nprocPerNode"] == "8"
    assert config["metadata"]["name"] == job["metadata"]["name"]
    run = resolve(yaml.safe_load(config["data"]["run.yaml"]))
    assert run.engine.kind == "deepspeed"
    assert run.engine.zero_stage == 3


def test_a_dry_run_prints_the_same_every_time(lapactl):
    command = ("submit", "pretrain", "--nodes", 8, "--dry-run")
    assert lapactl(*command).stdout == lapactl(*command).stdout
    assert lapactl(*command[:3], 4, *command[4:]).stdout != lapactl(*command).stdout


def test_a_dry_run_as_json_is_one_list_that_kubectl_takes(lapactl):
    result = lapactl("submit", "laq", "--nodes", 2, "--dry-run", "--output", "json")
    shown = json.loads(result.stdout)
    assert shown["kind"] == "List"
    assert [item["kind"] for item in shown["items"]] == ["ConfigMap", "PyTorchJob"]


def test_what_would_keep_the_job_from_working_is_told(lapactl):
    words = lapactl("submit", "pretrain", "--nodes", 8, "--dry-run").stderr
    assert "work_url is 'work'" in words
    assert "s3://BUCKET" in words
    assert "no MLflow server" in words


def test_decoding_workers_are_fitted_to_the_ranks_and_that_is_said(lapactl):
    result = lapactl("submit", "pretrain", "--nodes", 8, "--dry-run")
    run = yaml.safe_load(manifests(result.stdout)[0]["data"]["run.yaml"])
    assert run["pretrain"]["stream"]["workers"] == 1
    assert "pretrain.stream.workers: 4 -> 1" in result.stderr


@pytest.mark.parametrize(
    ("stage", "options", "kind", "command"),
    [
        ("ingest", (), "Job", ["python", "-m", "lapa", "ingest"]),
        ("ingest", ("--nodes", 4), "Job", ["python", "-m", "lapa", "ingest"]),
        ("evaluate", (), "Job", ["python", "-m", "lapa", "evaluate"]),
        ("label", (), "Job", ["python", "-m", "lapa.launch", "--standalone", "--nproc-per-node=8", "-m", "lapa"]),
        ("label", ("--nodes", 4), "PyTorchJob", ["python", "-m", "lapa.launch", "-m", "lapa", "label"]),
        ("finetune", ("--operator", "trainjob"), "TrainJob", ["python", "-m", "lapa.launch", "-m", "lapa"]),
    ],
)
def test_every_stage_becomes_the_kind_of_job_that_fits(lapactl, stage, options, kind, command):
    result = lapactl("submit", stage, *options, "--dry-run")
    assert result.exit_code == 0, result.stderr
    job = manifests(result.stdout)[1]
    assert job["kind"] == kind
    assert json.dumps(command)[1:-1] in json.dumps(job)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "--nodes", 0), "--nodes 0 would start nothing"),
        (("pretrian",), "'pretrian' is not a stage"),
        (("pretrain", "--gpus-per-node", 16), "has 8 GPUs"),
        (("evaluate", "--nodes", 2), "one process"),
        (("ingest", "--gpus-per-node", 1), "uses no GPU"),
        (("laq", "--nodes", 2, "--operator", "job"), "one node"),
        (("pretrain", "--cluster", "prdo"), "Did you mean 'prod'?"),
        (("pretrain", "--config", "tabletop", "--nodes", 2), "engine.kind=deepspeed"),
        (("pretrain", "--nodes", 3), "lanes=64 cannot be shared by 24 ranks"),
        (("pretrain", "--set", "cluster.scheduling.queu=x"), "Did you mean 'queue'?"),
        (("pretrain", "--set", "laq.fit.stepz=1"), "Did you mean 'steps'?"),
        (("pretrain", "--set", "cluster.environment.HF_TOKEN=abc"), "secrets.HF_TOKEN"),
        (("pretrain", "--set", "tracking.uri=https://me:hunter2@mlflow.example"), "a URL with a password"),
    ],
)
def test_a_request_that_cannot_be_ends_before_any_cluster_is_asked(lapactl, profile, arguments, words):
    result = lapactl("submit", *arguments, "--dry-run")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "hunter2" not in result.output
    assert result.stdout == ""


def test_a_profile_that_is_not_there_says_where_profiles_lie_and_which_there_are(lapactl, profile):
    told = lapactl("submit", "pretrain", "--cluster", "prdo", "--dry-run").stderr
    assert all(
        part in told for part in ("Did you mean 'prod'?", ".lapa/clusters/", "lapa/clusters/. docs/guide-cluster.md")
    )
    assert "There is: prod." in lapactl("doctor", "--cluster", "home").stderr
    profile.unlink()
    assert "There is none yet." in lapactl("doctor", "--cluster", "home").stderr


def test_a_real_submission_refuses_what_a_dry_run_warns_of(lapactl):
    result = lapactl("submit", "pretrain", "--nodes", 8)
    assert result.exit_code == 2
    assert "pods cannot see" in result.stderr


def test_no_kubeconfig_is_told_with_where_it_was_looked_for(lapactl, profile):
    result = lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod")
    assert result.exit_code == 21
    assert "no-kubeconfig" in result.stderr


def test_a_submission_creates_one_job_and_says_what_to_do_next(lapactl, profile, fake_api, inputs):
    result = lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod", "--output", "json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["created"] is True
    assert said["processes"] == 64
    assert sorted(path.split("/")[-2] for path in fake_api.objects) == ["configmaps", "pytorchjobs"]
    assert f"lapactl jobs logs {said['job']} --follow" in result.stderr
    again = lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod", "--output", "json")
    assert json.loads(again.stdout) == {**said, "created": False}
    assert "--new submits it again" in again.stderr
    lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod", "--new")
    assert len(fake_api.objects) == 4


@pytest.fixture
def mlflow_runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """State of each MLflow run by its id, as a server would have it; the real one is met in tests/tracking."""
    runs: dict[str, str] = {}

    def announce(*_: Any, **__: Any) -> AnnouncedRun:
        runs["run-1"] = "SCHEDULED"
        return AnnouncedRun("run-1", "https://mlflow.example/#/experiments/1/runs/run-1")

    monkeypatch.setattr("lapactl.submit_tracking.fingerprint", lambda run, stage: "abc")
    monkeypatch.setattr("lapactl.submit_tracking.announce_run", announce)
    monkeypatch.setattr(
        "lapactl.submit_tracking.withdraw_run", lambda *_, run_id, **__: runs.update({run_id: "KILLED"})
    )
    return runs


def test_the_run_s_page_is_there_from_the_start(lapactl, profile, fake_api, inputs, mlflow_runs):
    command = ("submit", "pretrain", "--nodes", 8, "--cluster", "prod", "--output", "json")
    said = json.loads(lapactl(*command).stdout)
    assert said["mlflow"].endswith("/runs/run-1")
    job = next(item for path, item in fake_api.objects.items() if "/pytorchjobs/" in path)
    assert '{"name": "MLFLOW_RUN_ID", "value": "run-1"}' in json.dumps(job)
    mlflow_runs.clear()
    assert json.loads(lapactl(*command).stdout)["mlflow_run_id"] == "run-1"
    assert mlflow_runs == {}, "a job that is there already needs no run"


def test_a_run_whose_job_is_refused_does_not_stay_open(lapactl, profile, fake_api, inputs, mlflow_runs):
    refused = status(403, "Forbidden", "no")
    fake_api.rules.append(lambda method, path, _: refused if method == "POST" and "pytorchjobs" in path else None)
    assert lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod").exit_code == 22
    assert mlflow_runs == {"run-1": "KILLED"}


@pytest.mark.parametrize(
    ("withheld", "state", "words"),
    [
        ((), "KILLED", ""),
        (("DELETE",), "SCHEDULED", "is there all the same"),
        (("DELETE", "GET"), "SCHEDULED", "cannot be asked"),
    ],
)
@pytest.mark.usefixtures("profile", "inputs")
def test_after_a_lost_answer_the_run_stays_while_its_job_does(
    lapactl, fake_api, mlflow_runs, monkeypatch, withheld, state, words
):
    create = Cluster.create
    refused = status(403, "Forbidden", "not now")

    def answer_lost(asked: Cluster, kind: Kind, *arguments: Any, **options: Any) -> Manifest:
        made = create(asked, kind, *arguments, **options)
        if kind == PYTORCHJOB:
            fake_api.rules.append(lambda method, *_: refused if method in withheld else None)
            raise ClusterUnreachable("nobody answers")
        return made

    monkeypatch.setattr(Cluster, "create", answer_lost)
    command = ("submit", "pretrain", "--nodes", 8, "--cluster", "prod")
    result = lapactl(*command)
    assert (result.exit_code, mlflow_runs) == (21, {"run-1": state})
    assert words in result.stderr
    fake_api.rules.pop()
    assert bool(fake_api.objects) == (state == "SCHEDULED"), "the job is the truth"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_does_not_stay_open_where_the_submission_is_stopped(
    lapactl, profile, fake_api, inputs, mlflow_runs, monkeypatch, number
):
    monkeypatch.setattr("lapactl.submit_run.submit", lambda *_: signal.raise_signal(number))
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod").exit_code == 128 + number
    finally:
        signal.signal(number, before)
    assert mlflow_runs == {"run-1": "KILLED"}


def test_a_server_side_dry_run_stores_nothing(lapactl, profile, fake_api):
    result = lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod", "--dry-run=server")
    assert result.exit_code == 0, result.stderr
    assert fake_api.objects == {}
    assert [item["kind"] for item in manifests(result.stdout)] == ["ConfigMap", "PyTorchJob"]


@pytest.mark.parametrize("stage", ["pretrain", "pipeline"])
def test_both_dry_runs_show_what_would_be_sent_and_say_what_keeps_it_from_being_sent(lapactl, fake_api, stage):
    here, there = (lapactl("submit", stage, "--nodes", 8, f"--dry-run={where}") for where in ("client", "server"))
    assert (here.exit_code, there.exit_code) == (0, 0), there.stderr
    assert manifests(here.stdout) == manifests(there.stdout)
    for shown in (here, there):
        assert "s3://BUCKET" in shown.stderr and "refuses until what is said above is mended" in shown.stderr
    assert fake_api.objects == {}
    assert lapactl("submit", stage, "--nodes", 8).exit_code == 2


def test_inputs_that_are_missing_name_the_stage_to_submit_first(lapactl, profile, fake_api):
    result = lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod")
    assert result.exit_code == 3
    assert fake_api.objects == {}


def test_waiting_for_a_job_that_fails_is_a_failure(lapactl, profile, fake_api, inputs):
    def fail(method: str, path: str, _query: dict[str, str]) -> None:
        for stored, item in fake_api.objects.items():
            if "/pytorchjobs/" in stored and method == "GET":
                item["status"] = {"conditions": [{"type": "Failed", "status": "True", "message": "too many restarts"}]}

    fake_api.rules.append(fail)
    result = lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod", "--wait")
    assert result.exit_code == 28
    assert "too many restarts" in result.stderr


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(403, "Forbidden", "no"), 22),
        (status(403, "Forbidden", "exceeded quota"), 25),
        (status(404, "NotFound", "could not find the requested resource"), 23),
        (status(422, "Invalid", "spec: wrong"), 27),
    ],
)
def test_a_refusal_ends_with_its_exit_code_and_leaves_nothing(lapactl, profile, fake_api, inputs, answer, code):
    fake_api.rules.append(lambda method, path, _: answer if method == "POST" and "pytorchjobs" in path else None)
    result = lapactl("submit", "pretrain", "--nodes", 8, "--cluster", "prod")
    assert result.exit_code == code
    assert result.stderr.count("error: ") == 1
    assert fake_api.objects == {}


def test_the_highest_word_wins_and_is_named(lapactl, project, profile, monkeypatch):
    """flag > --set > environment > project file > profile > preset > default."""
    (project / ".lapa").mkdir()
    (project / ".lapa" / "project.yaml").write_text(
        "cluster: prod\nsettings: {laq.fit.steps: 4, pretrain.fit.steps: 4, finetune: null, cluster.gpu_node.cpu: 4}\n"
    )
    monkeypatch.setenv("LAPA_LAQ__FIT__STEPS", "3")
    monkeypatch.setenv("LAPA_CLUSTER__GPU_NODE__CPU", "3")
    result = lapactl("config", "show", "lapa", "--origin", "--set", "seed=2", "--output", "json")
    assert result.exit_code == 0, result.stderr
    said = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(result.stdout)}
    assert said["seed"] == (2, "--set")
    assert said["laq.fit.steps"] == (3, "LAPA_LAQ__FIT__STEPS")
    assert said["pretrain.fit.steps"] == (4, ".lapa/project.yaml")
    assert said["cluster.gpu_node.cpu"] == (3, "LAPA_CLUSTER__GPU_NODE__CPU")
    assert said["work_url"] == ("memory://work", "config/lapa/clusters/prod.yaml")
    assert said["cluster.scheduling.queue"] == ("research", "config/lapa/clusters/prod.yaml")
    assert said["laq.window_seconds"] == (0.6, "preset lapa")
    assert said["cluster.restarts.retries"] == (3, "default")


def test_a_run_file_wins_over_the_profile_and_the_profile_over_its_preset(lapactl, project, profile):
    (project / "mine.yaml").write_text("preset: lapa\nwork_url: memory://mine\n")
    result = lapactl("config", "show", "mine.yaml", "--origin", "--cluster", "prod", "--output", "json")
    said = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(result.stdout)}
    assert said["work_url"] == ("memory://mine", "mine.yaml")
    assert said["videos.url"] == ("memory://videos", "config/lapa/clusters/prod.yaml")
    assert said["seed"] == (0, "preset of mine.yaml")


def test_settings_of_a_submission_are_those_of_a_run_here(lapactl):
    shown = manifests(lapactl("submit", "laq", "--config", "lapa", "--set", "seed=5", "--dry-run").stdout)[0]
    here = load_run("lapa", ["seed=5"])
    assert resolve(yaml.safe_load(shown["data"]["run.yaml"])).laq.model == here.laq.model


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("storage: {access: hunter2}", "Valid: endpoint_url, region, secret"),
        ("storage: {secret: hunter2/ABC}", "names an existing Secret"),
        ("environment: {MY_PASSWORD: hunter2}", "Kubernetes Secret"),
        ("storage: {endpoint_url: 'https://me:hunter2@s3.example'}", "a URL with a password"),
        ("[1, 2]", "must hold a mapping"),
        ("a: {", "not valid YAML"),
        ("cpu_node: {gpus: 8}", "gpu_node"),
        ("gpu_node: {memory_gib: 10, shared_memory_gib: 20}", "make it smaller"),
    ],
)
def test_a_profile_with_a_mistake_or_a_secret_is_refused(lapactl, profile, text, words):
    profile.write_text(text)
    result = lapactl("submit", "pretrain", "--cluster", "prod", "--dry-run")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.usefixtures("profile", "inputs")
def test_more_nodes_than_the_queue_will_ever_admit_are_refused_and_nothing_is_made(lapactl, fake_api):
    fake_api.rules.insert(0, queue_of(gpus=16))
    result = lapactl("submit", "laq", "--nodes", 4, "--cluster", "prod")
    assert result.exit_code == 25
    assert "4 nodes ask for 32, which it will never admit. Ask for fewer --nodes" in result.stderr
    assert fake_api.objects == {}


@pytest.mark.usefixtures("profile", "inputs")
def test_a_queue_that_may_not_be_looked_at_is_no_reason_to_refuse(lapactl, fake_api):
    denied = status(403, "Forbidden", "no")
    fake_api.rules.insert(0, lambda method, path, _: denied if "/clusterqueues/" in path else None)
    assert lapactl("submit", "laq", "--nodes", 4, "--cluster", "prod").exit_code == 0


@pytest.mark.usefixtures("profile", "inputs")
def test_an_image_that_no_engine_would_take_is_refused(lapactl, fake_api):
    result = lapactl("submit", "laq", "--cluster", "prod", "--image", "Registry/LAPA:1")
    assert (result.exit_code, "is no image reference" in result.stderr) == (2, True)


def test_a_bucket_without_credentials_is_told(lapactl, profile: Path):
    told = "no credentials are named for s3://team/lapa"
    command = ("submit", "laq", "--cluster", "prod", "--dry-run", "--work", "s3://team/lapa")
    assert told in lapactl(*command).stderr
    assert told not in lapactl(*command, "--set", "cluster.storage.secret=bucket").stderr
    assert told not in lapactl(*command, "--set", "cluster.service_account=lapa-runner").stderr


@pytest.mark.usefixtures("profile", "inputs")
def test_a_request_without_a_login_is_not_taken_for_a_missing_role(lapactl, fake_api):
    words = 'pytorchjobs.kubeflow.org is forbidden: User "system:anonymous" cannot get resource'
    fake_api.rules.insert(0, lambda method, path, _: status(403, "Forbidden", words))
    result = lapactl("submit", "laq", "--cluster", "prod")
    assert result.exit_code == 22
    assert "without a login" in result.stderr
    assert "lapa-submitter" not in result.stderr


@pytest.mark.usefixtures("profile", "inputs")
def test_a_bucket_that_this_machine_cannot_read_is_told_since_the_pods_may(lapactl, fake_api, monkeypatch):
    def refused(run: Any, stage: str) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr("lapactl.submit_inputs.inputs_of", refused)
    result = lapactl("submit", "laq", "--cluster", "prod")
    assert result.exit_code == 0, result.stderr
    assert "cannot look into memory://work from here, so the inputs are unchecked" in result.stderr
    assert "PermissionError: Access Denied" in result.stderr
