"""`lapactl export`, `promote`, `models`: from a run's folder to production, as a user types it."""

import json
from pathlib import Path

import pytest

from lapa.config.run import TrackingConfig
from lapa.tracking.registry import Registry
from tests.cli.conftest import Lapactl
from tests.promotion.conftest import QUICK
from tests.promotion.policies import Made, make_run, register_ancestors
from tests.tracking.conftest import template_store, work  # noqa: F401 (fixtures)


@pytest.fixture
def gates(tmp_path: Path) -> str:
    (tmp_path / "gates.yaml").write_text(QUICK.replace("  - kind: provenance\n", ""))
    return str(tmp_path / "gates.yaml")


@pytest.fixture
def made(work: Path) -> Made:  # noqa: F811
    made = make_run(work)
    register_ancestors(Registry.open(TrackingConfig(), store=str(work)), made)
    return made


def test_a_policy_goes_from_its_run_to_production(made: Made, lapactl: Lapactl, lapactl_json, gates: str):
    at = ("--work", made.work)
    exported = lapactl_json("export", made.finetune, made.work / "out", *at)
    assert (exported["version"], exported["aliases"], exported["digest"]) == (1, ["candidate"], made.digest)
    report = lapactl_json("promote", "lapa-policy@candidate", "--gates", gates, "--as", "ada", *at)
    assert report["passes"] and {verdict["outcome"] for verdict in report["verdicts"]} == {"passed", "skipped"}
    (listed,) = lapactl_json("models", "list", "lapa-policy", *at)
    assert listed["aliases"] == ["candidate", "production"] and listed["url"] == str(made.work / "out")
    again = lapactl("promote", "lapa-policy@candidate", "--gates", gates, *at)
    assert again.exit_code == 0 and "in production already" in again.stderr
    assert lapactl_json("models", "verify", "lapa-policy@production", *at)["whole"]


def test_exporting_an_older_policy_says_where_the_candidate_goes(made: Made, lapactl: Lapactl, lapactl_json):
    at = ("--work", made.work)
    first = lapactl_json("export", made.finetune, made.work / "out", *at)
    assert (first["source"], first["run"], first["stage"]) == (made.finetune, "toy", "finetune")
    assert first["candidate_before"] is None
    newer = make_run(made.work, seed=1)
    forwards = lapactl("export", newer.finetune, made.work / "out-1", *at)
    assert f"exported {newer.finetune} (stage finetune of run 'toy') as lapa-policy/2" in forwards.stderr
    assert "candidate: version 1 -> 2" in forwards.stderr and "which is older" not in forwards.stderr
    back = lapactl("export", made.finetune, made.work / "out", *at, "--output", "json")
    assert (json.loads(back.stdout)["version"], json.loads(back.stdout)["candidate_before"]) == (1, 2)
    assert "warning: candidate: version 2 -> 1, which is older" in back.stderr
    assert lapactl_json("promote", "lapa-policy/2", "--to", "candidate", *at)["candidate_before"] == 1


def test_the_last_promotion_is_taken_back_without_gates_and_a_second_time_changes_nothing(
    made: Made, lapactl: Lapactl, lapactl_json
):
    at, registry = ("--work", made.work), Registry.open(TrackingConfig(), store=str(made.work))
    for number, run in enumerate((made, make_run(made.work, seed=1))):
        lapactl_json("export", run.finetune, made.work / f"out-{number}", *at)
    for alias, version in (("previous", 1), ("production", 2)):
        registry.set_alias("lapa-policy", alias, version)
    vague = lapactl("promote", "lapa-policy", "--back", *at)
    assert vague.exit_code == 2 and "needs the version" in vague.stderr
    assert lapactl_json("promote", "lapa-policy/1", "--back", "--reason", "drops the block", *at)["promoted"]
    assert registry.aliases("lapa-policy") == {"candidate": 2, "previous": 2, "production": 1}
    assert not lapactl_json("promote", "lapa-policy/1", "--back", *at)["promoted"]
    assert registry.aliases("lapa-policy")["production"] == 1
    told = lapactl_json("models", "show", "lapa-policy@production", *at)["promotions"][-1]
    assert (told["kind"], told["reason"]) == ("rollback", "drops the block")


def test_exporting_what_is_not_there_is_bad_input_and_names_what_is(made: Made, lapactl: Lapactl):
    result = lapactl("export", "wrok/finetune-9", made.work / "out", "--work", made.work)
    assert result.exit_code == 2
    assert "there is no folder wrok/finetune-9" in result.stderr and f"  {made.finetune}  of run 'toy'" in result.stderr


def test_a_refusal_has_its_own_exit_code_and_force_leaves_a_mark(
    made: Made, lapactl: Lapactl, lapactl_json, gates: str
):
    at, poor = ("--work", made.work), make_run(made.work, seed=1, successes=20)
    lapactl_json("export", poor.finetune, made.work / "out", *at)
    refused = lapactl("promote", "lapa-policy", "--gates", gates, *at)
    assert refused.exit_code == 10
    assert "success-rate" in refused.stdout and "33.3%" in refused.stdout and "nothing was changed" in refused.stderr
    tried = lapactl("promote", "lapa-policy", "--gates", gates, "--dry-run", *at)
    assert tried.exit_code == 10, "a script that asks first gets the same answer"
    silent = lapactl("promote", "lapa-policy", "--gates", gates, "--force", *at)
    assert silent.exit_code == 2 and "--reason" in silent.stderr
    forced = lapactl("promote", "lapa-policy", "--gates", gates, "--force", "--reason", "bench only", *at)
    assert forced.exit_code == 0
    shown = lapactl("models", "show", "lapa-policy@production", *at)
    assert "promoted by force" in shown.stderr and "bench only" in shown.stderr
    assert lapactl_json("models", "list", "lapa-policy", *at)[0]["forced"]


def test_lineage_and_differences_are_shown(made: Made, lapactl: Lapactl, lapactl_json):
    at = ("--work", made.work)
    lapactl_json("export", made.finetune, made.work / "out", *at)
    other = make_run(made.work, seed=1, successes=40)
    lapactl_json("export", other.finetune, made.work / "out-1", *at)
    drawn = lapactl("models", "lineage", "lapa-policy", "--files", *at)
    assert drawn.exit_code == 0 and "labels" in drawn.stdout and "test://episode-0001" in drawn.stdout
    rows = lapactl_json("models", "lineage", "--contains", made.videos.digest, *at)
    assert {(row["model"], row["version"]) for row in rows} >= {("lapa-policy", 1), ("lapa-policy", 2)}
    differences = {row["what"]: row for row in lapactl_json("models", "diff", "lapa-policy/1", "lapa-policy/2", *at)}
    assert differences["run.seed"] == {"what": "run.seed", "first": 0, "second": 1}
    assert "metrics.success_rate" in differences and "horizon" not in differences


def test_a_damaged_bundle_is_found_by_verify(made: Made, lapactl: Lapactl, lapactl_json):
    lapactl_json("export", made.finetune, made.work / "out", "--work", made.work)
    card = made.work / "out" / "policy.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"horizon": 99}))
    result = lapactl("models", "verify", "lapa-policy", "--work", made.work)
    assert result.exit_code == 6 and "policy.json" in result.stderr and "altered" in result.stderr


def test_the_gates_that_count_are_printed(lapactl: Lapactl):
    shown = lapactl("promote", "lapa-policy", "--show-gates")
    assert shown.exit_code == 0 and "kind: not-below-production" in shown.stdout


def test_a_registry_that_is_away_is_an_error_with_its_exit_code(made: Made, lapactl: Lapactl, monkeypatch):
    monkeypatch.setattr("lapactl.registry.WAIT_SECONDS", 0.1)
    result = lapactl("promote", "lapa-policy", "--tracking", "http://127.0.0.1:9")
    assert result.exit_code == 7 and "stayed away" in result.stderr
