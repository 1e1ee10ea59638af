"""`lapactl submit evaluate --set evaluate.policy=…`: a job for a policy that is there already."""

from pathlib import Path

import pytest
import yaml

from lapa.config.run import TrackingConfig
from lapa.tracking.registry import Registry
from tests.promotion.policies import make_run
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)

SUBMIT = ("submit", "evaluate", "--config", "tabletop", "--dry-run")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without profiles, kubeconfig or settings in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))


@pytest.fixture
def tracking(work: Path) -> str:  # noqa: F811
    """A registry whose candidate is version 1, as `cluster.tracking.uri` names it."""
    made = make_run(work, successes=None)
    registry = Registry.open(TrackingConfig(), store=str(work), wait_seconds=5)
    registry.register("lapa-policy", f"{made.finetune}/policy", digest=made.digest, inputs={})
    registry.set_alias("lapa-policy", "candidate", 1)
    return f"--set=cluster.tracking.uri=sqlite:///{work}/mlflow.db"


def mounted(stdout: str) -> dict:
    config, _ = yaml.safe_load_all(stdout)
    return yaml.safe_load(config["data"]["run.yaml"])


def test_an_alias_is_pinned_so_that_another_candidate_is_another_job(lapactl, tracking: str):
    by_alias = lapactl(*SUBMIT, "--set=evaluate.policy=lapa-policy@candidate", tracking)
    assert by_alias.exit_code == 0, by_alias.stderr
    assert mounted(by_alias.stdout)["evaluate"]["policy"] == "lapa-policy/1"
    assert mounted(by_alias.stdout)["tracking"]["uri"].startswith("sqlite:///")
    assert "lapa-policy@candidate is lapa-policy/1" in by_alias.stderr
    assert lapactl(*SUBMIT, "--set=evaluate.policy=lapa-policy/1", tracking).stdout == by_alias.stdout


def test_a_pipeline_pins_the_alias_when_it_is_submitted(lapactl, tracking: str):
    words = ("submit", "pipeline", "--config", "tabletop", "--set=baselines={}", "--dry-run", tracking)
    shown = lapactl(*words, "--from", "evaluate", "--set=evaluate.policy=lapa-policy@candidate")
    assert shown.exit_code == 0, shown.stderr
    assert "lapa-policy@candidate is lapa-policy/1" in shown.stderr
    assert "lapa-policy/1" in shown.stdout and "lapa-policy@candidate" not in shown.stdout


@pytest.mark.parametrize("policy", ["s3://robots/red", "ws://lapa-policy:8000"])
def test_bundles_and_servers_are_the_pods_business(lapactl, policy: str):
    shown = lapactl(*SUBMIT, f"--set=evaluate.policy={policy}")
    assert shown.exit_code == 0, shown.stderr
    assert mounted(shown.stdout)["evaluate"]["policy"] == policy


def test_without_the_registry_a_dry_run_shows_the_alias_and_says_so(lapactl, tracking: str):
    shown = lapactl(*SUBMIT, "--set=evaluate.policy=lapa-policy@production", tracking)
    assert mounted(shown.stdout)["evaluate"]["policy"] == "lapa-policy@production"
    assert "no alias 'production'" in shown.stderr


SERVED = "--set=evaluate.policy=wss://lapa-policy.robotics:8000"
TOKEN = "--set=cluster.secrets.LAPA_SERVER_TOKEN={secret: robots, key: token}"


@pytest.mark.parametrize("stage", ["evaluate", "pipeline"])
def test_judging_a_server_holds_no_gpu_and_asks_for_its_token(lapactl, stage: str):
    words = ("submit", stage, "--config", "tabletop", "--set=baselines={}", "--dry-run", SERVED)
    words += ("--from", "evaluate") if stage == "pipeline" else ()
    told = "no token is named for the policy server"
    shown = lapactl(*words)
    assert shown.exit_code == 0, shown.stderr
    assert "nvidia.com/gpu" not in shown.stdout and "no GPU" in shown.stderr
    assert told in shown.stderr
    named = lapactl(*words, TOKEN)
    assert told not in named.stderr and "LAPA_SERVER_TOKEN" in named.stdout and "robots" in named.stdout


def test_a_gpu_that_is_asked_for_is_given(lapactl):
    assert "nvidia.com/gpu: '1'" in lapactl(*SUBMIT, SERVED, "--gpus-per-node", 1).stdout
    of_a_bundle = lapactl(*SUBMIT, "--set=evaluate.policy=s3://robots/red")
    assert "nvidia.com/gpu: '1'" in of_a_bundle.stdout and "no token is named" not in of_a_bundle.stderr
