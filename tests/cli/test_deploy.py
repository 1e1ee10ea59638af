"""`lapactl deploy`, as a user types it; servers are stand-ins, the registry is a real MLflow store in a file."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from local_servers import stand_in_command

from lapa.config.run import TrackingConfig
from lapa.errors import NotRegistered, TrackingError
from lapa.policy.manifest import bundle_digest
from lapa.tracking.mlflow_client import open_client
from lapa.tracking.registry import Registry
from lapa_k8s import rollout
from lapa_k8s.errors import NotFound
from lapactl import registry as registry_options
from lapactl.deploy_local import LocalTarget
from tests.cli.conftest import Lapactl
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)

AWAY = ("--tracking", "http://127.0.0.1:9")


@pytest.fixture
def registry(work: Path) -> Registry:  # noqa: F811
    """Three versions of a policy, the first in production."""
    found = Registry.open(TrackingConfig(), store=str(work), wait_seconds=5)
    for version in (1, 2, 3):
        bundle = work / "bundles" / str(version)
        bundle.mkdir(parents=True)
        manifest = {"schema_version": 1, "files": {"policy.json": f"{version:064x}"}}
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        found.register("lapa-policy", str(bundle), digest=bundle_digest(manifest), inputs={})
    found.set_alias("lapa-policy", "production", 1)
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """Options of commands about this machine."""
    monkeypatch.setattr("lapactl.deploy_local.serve_command", stand_in_command)
    monkeypatch.setattr("lapactl.deploy.end_cleanly", lambda: None)  # the handler would be pytest's
    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(registry_options, "WAIT_SECONDS", 0.2)
    state = tmp_path / "state"
    yield ("--target", "local", "--state", str(state))
    target = LocalTarget(state)
    for name in target.names():
        target.remove(name)


def test_a_deployment_follows_its_alias_and_goes_back_without_the_registry(
    registry: Registry, work: Path, here: tuple[str, ...], lapactl: Lapactl, lapactl_json,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    at = (*here, "--work", work)

    def state(*options: object) -> tuple[object, ...]:
        (row,) = lapactl_json("deploy", "status", *(options or at))
        desired = row["desired"] and row["desired"]["version"]
        answered = requests.post(row["address"].replace("ws", "http", 1), json={}, timeout=300).json()["version"]
        assert answered == row["actual"]["version"]
        return row["state"], desired, answered, row["health"]

    started = lapactl("deploy", "lapa-policy@production", "--port", 0, *at)
    assert started.exit_code == 0, started.stderr
    assert lapactl("deploy", "delete", "arm", *here).stderr.count("'arm'") == 1, "what is not there is not asked about"
    assert "no gate judged lapa-policy/1" in started.stderr
    assert state() == ("in-sync", 1, 1, "ready")
    assert lapactl_json("deploy", "lapa-policy@production", "--port", 0, *at)["state"] == "unchanged"

    registry.set_alias("lapa-policy", "production", 2)
    assert state() == ("drift", 2, 1, "ready")
    hinted = f"`lapactl deploy sync lapa-policy {' '.join(here)}` closes it"
    assert hinted in lapactl("deploy", "status", *at).stderr, "the whole command, as it works here"
    assert lapactl_json("deploy", "sync", "--all", *at)[0]["did"] == "switched"
    assert state() == ("in-sync", 2, 2, "ready")

    open_client(registry.uri).delete_registered_model_alias("lapa-policy", "production")
    gone = lapactl("deploy", "sync", "--all", *at)
    assert gone.exit_code == 26 and "no alias 'production'" in gone.stderr, "asking again later helps as little"
    registry.set_alias("lapa-policy", "production", 2)
    away = lapactl("deploy", "sync", "--all", *here, *AWAY)
    assert away.exit_code == 7 and "What runs was left as it is" in away.stderr
    monkeypatch.setenv("KUBECONFIG", str(work / "none"))
    for verb in ("rollback", "status", "sync", "history", "prune", "delete"):
        asked = lapactl("deploy", verb, "lapa-policy", *here[2:])
        typed = f"`lapactl deploy {verb} lapa-policy {' '.join(here)}`"
        assert asked.exit_code == 21 and f"This machine has a deployment 'lapa-policy': {typed}" in asked.stderr
    assert "sync --all --target local" in lapactl("deploy", "sync", "--all", *here[2:]).stderr
    back = lapactl("deploy", "rollback", "lapa-policy", "--reason", "drops the block", *here)
    assert back.exit_code == 0, back.stderr
    assert state(*here, *AWAY) == ("unknown", None, 1, "ready")
    assert state() == ("held", 2, 1, "ready")
    assert lapactl_json("deploy", "sync", "lapa-policy", *at)[0]["did"] == "unchanged"
    shown = [
        (row["version"], row["kind"], row["state"]) for row in lapactl_json("deploy", "history", "lapa-policy", *here)
    ]
    assert [row[:2] for row in shown] == [(1, "rollback"), (2, "sync"), (1, "deploy")]
    assert shown[0][2] == "active" and "rejected" in shown[1][2]

    pinned = lapactl_json("deploy", "lapa-policy/3", "--port", 0, "--reason", "bench test", *at)
    assert (pinned["state"], pinned["replaced"]) == ("switched", 1)
    assert state() == ("pinned", None, 3, "ready")
    monkeypatch.setattr("lapactl.deploy_change.sleep", sys.exit)
    watched = lapactl("deploy", "sync", "--all", "--watch", "30s", *at)
    assert watched.stdout == "", "only what was done is told"
    unattended = lapactl("deploy", "delete", "lapa-policy", *here)
    assert unattended.exit_code == 2 and "there is no terminal; nothing was changed" in unattended.stderr
    assert f"`lapactl deploy delete lapa-policy {' '.join(here)} --yes`" in unattended.stderr
    assert state() == ("pinned", None, 3, "ready"), "it asks first"
    assert lapactl_json("deploy", "delete", "lapa-policy", "--yes", *here)["state"] == "deleted"
    assert lapactl_json("deploy", "status", *here, *AWAY) == []


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("digest", 6, "somebody replaced it. Nothing was started"),
        ("bundle", 6, "manifest.json"),
        ("alias", 26, "has no alias 'staging'"),
        ("version", 26, "version=9) not found"),
        ("model", 26, "Did you mean 'lapa-policy'"),
        ("registry", 7, "stayed away"),
        ("setting", 2, "max_btch"),
        ("name", 2, "name"),
        ("address", 2, "answer whoever asks"),
    ],
)
def test_what_cannot_be_deployed_is_told_before_anything_starts(
    fault: str, code: int, words: str, registry: Registry, work: Path, here: tuple[str, ...], lapactl: Lapactl,  # noqa: F811
):  # fmt: skip
    manifest = work / "bundles" / "1" / "manifest.json"
    if fault == "digest":
        manifest.write_text(json.dumps({"schema_version": 1, "files": {"policy.json": "f" * 64}}))
    if fault == "bundle":
        manifest.unlink()
    more = {
        "alias": ("lapa-policy@staging",),
        "version": ("lapa-policy/9",),
        "model": ("lapa-polcy",),
        "registry": ("lapa-policy", *AWAY),
        "setting": ("lapa-policy", "--set", "max_btch=3"),
        "name": ("lapa-policy", "--name", "Arm/One"),
        "address": ("lapa-policy", "--host", "0.0.0.0"),
    }.get(fault, ("lapa-policy",))
    result = lapactl("deploy", *more, "--port", 0, *here, "--work", work)
    assert result.exit_code == code and words in result.stderr, result.stderr
    assert not list(Path(here[-1]).glob("*")), "nothing half-made is left"


def test_a_dry_run_prints_what_a_cluster_would_get(
    registry: Registry,
    work: Path,  # noqa: F811
    lapactl: Lapactl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("lapactl.deploy.end_cleanly", lambda: None)
    registry.set_tags("lapa-policy", 1, {"lapa.url": "s3://robots/policies/1"})
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    common = ("deploy", "lapa-policy", "--dry-run", "--token-secret", "robots", "--namespace", "team", "--work", work)
    plain = lapactl(*common, "--set", "bounds=refuse", "--replicas", 2)
    assert plain.exit_code == 0, plain.stderr
    deployment, service = yaml.safe_load_all(plain.stdout)
    assert (deployment["kind"], deployment["spec"]["replicas"], service["kind"]) == ("Deployment", 2, "Service")
    assert "bounds=refuse" in deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    kserve = lapactl(*common, "--target", "kserve")
    assert yaml.safe_load(kserve.stdout)["kind"] == "InferenceService"
    back = lapactl("deploy", "rollback", "lapa-policy", "--target", "kserve")
    assert back.exit_code == 2 and "`lapactl deploy start NAME/VERSION --target kserve` goes back" in back.stderr
    refused = lapactl("deploy", "lapa-policy", "--dry-run", "--namespace", "team", "--work", work)
    assert refused.exit_code == 2 and "robots must show a token" in refused.stderr
    assert "without a cluster: `lapactl deploy start lapa-policy --target local`" in refused.stderr


def test_a_misspelt_command_is_no_model(lapactl: Lapactl):
    result = lapactl("deploy", "rolback", "lapa-policy")
    assert result.exit_code == 2 and "Did you mean 'rollback'?" in result.stderr


def test_a_name_that_is_not_there_has_one_exit_code_wherever_it_was_looked_for():
    assert NotRegistered.exit_code == NotFound.exit_code != TrackingError.exit_code
