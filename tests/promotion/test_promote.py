"""From candidate to production and back, on a real MLflow store."""

import json
from pathlib import Path

import pytest

from lapa.errors import ConfigError, NotRegistered, PromotionConflict, PromotionRefused
from lapa.promotion.config import PromotionConfig
from lapa.promotion.describe import describe
from lapa.promotion.promote import (
    REPORT_JSON,
    REPORT_PAGE,
    Attempt,
    approve,
    attempt,
    carry_out,
    open_case,
    restore_previous,
)
from lapa.promotion.verdicts import PromotionReport
from lapa.tracking import ledger
from lapa.tracking.ledger import Decision
from lapa.tracking.records import Records
from lapa.tracking.references import parse_reference, resolve
from lapa.tracking.registry import POLICY_MODEL, Registry
from tests.promotion.conftest import Registered


@pytest.fixture
def judged(registry: Registry, records: Records, gates: PromotionConfig):
    """`judged("lapa-policy/1", force=True)`."""

    def judge(reference: str = POLICY_MODEL, **settings) -> Attempt:
        return attempt(registry, records, open_case(registry, reference), gates, who="ada", **settings)

    return judge


def outcomes(judged: Attempt) -> dict[str, str]:
    return {verdict.gate: verdict.outcome for verdict in judged.report.verdicts}


def test_a_good_policy_becomes_production_and_its_evidence_is_kept(registry, records, registered: Registered, judged):
    registered()
    first = judged()
    carry_out(registry, first)
    assert outcomes(first) == dict.fromkeys(outcomes(first), "passed") | {"not-below-production": "skipped"}
    found = resolve(registry, "lapa-policy@production")
    assert (found.version, found.aliases) == (1, ("candidate", "production"))
    assert found.tags["lapa.gate.success-rate"].startswith("passed: 90.0%")
    kept = PromotionReport.model_validate_json(records.read(first.record.run_id, REPORT_JSON))
    assert kept == first.report
    page = records.read(first.record.run_id, REPORT_PAGE)
    assert "lapa-policy/1: passed its gates" in page and "http" not in page.replace("http-equiv", "")


def test_the_version_before_becomes_previous_and_a_rollback_takes_it_back(registry, registered: Registered, judged):
    registered(seed=0)
    carry_out(registry, judged())
    registered(seed=1, successes=57)
    second = judged()
    carry_out(registry, second)
    assert outcomes(second)["not-below-production"] == "passed"
    assert registry.aliases(POLICY_MODEL) == {"candidate": 2, "previous": 1, "production": 2}
    restore_previous(registry, open_case(registry, f"{POLICY_MODEL}/1"), who="bob", reason="it drops cups")
    assert registry.aliases(POLICY_MODEL) == {"candidate": 2, "previous": 2, "production": 1}
    history = describe(registry, registry.get(POLICY_MODEL, 1))["promotions"]
    assert [(line["kind"], line["version"], line["reason"]) for line in history] == [
        ("promotion", 1, ""), ("promotion", 2, ""), ("rollback", 1, "it drops cups"),
    ]  # fmt: skip


def test_a_policy_that_fails_a_gate_is_refused_and_nothing_moves(registry, records, registered: Registered, judged):
    registered(successes=30)
    refused = judged()
    with pytest.raises(PromotionRefused, match=r"success-rate failed.*--force"):
        carry_out(registry, refused)
    assert registry.aliases(POLICY_MODEL) == {"candidate": 1}
    assert registry.get(POLICY_MODEL, 1).tags["lapa.gate.success-rate"].startswith("failed: 50.0%")
    assert "refused" in records.read(refused.record.run_id, REPORT_PAGE)


def test_a_policy_below_production_on_the_same_episodes_is_refused(registry, registered: Registered, judged):
    registered(seed=0, successes=58)
    carry_out(registry, judged())
    registered(seed=1, successes=46)
    worse = judged()
    assert outcomes(worse)["success-rate"] == "passed" and outcomes(worse)["not-below-production"] == "failed"
    with pytest.raises(PromotionRefused, match="not-below-production"):
        carry_out(registry, worse)
    assert registry.aliases(POLICY_MODEL)["production"] == 1


def test_force_is_visible_for_ever_after(registry, registered: Registered, judged):
    registered(successes=30)
    forced = judged(force=True, reason="a demo on the bench, arm unpowered")
    carry_out(registry, forced)
    registered(seed=1)
    carry_out(registry, judged())
    told = describe(registry, registry.get(POLICY_MODEL, 1))
    assert told["forced"][0]["gates"] == ["success-rate"]
    assert "ada overruled success-rate (a demo on the bench, arm unpowered)" in told["warnings"][0]
    assert told["promotions"][0]["forced"] == ["success-rate"]


def test_a_damaged_bundle_cannot_be_forced(registry, registered: Registered, judged):
    version = registered()
    (Path(version.url) / "policy.json").write_text("{}")
    damaged = judged(force=True, reason="it was fine yesterday")
    with pytest.raises(PromotionRefused, match="Not to be overruled: files"):
        carry_out(registry, damaged)
    assert "production" not in registry.aliases(POLICY_MODEL)


def test_what_cannot_be_read_fails_its_gate_and_not_the_command(registry, registered: Registered, judged, work):
    registered()
    (work / "evaluate-0" / "episodes.json").write_text("{}")
    verdict = next(verdict for verdict in judged().report.verdicts if verdict.gate == "success-rate")
    assert verdict.is_failure and "was changed since it was attached" in verdict.found


def test_of_two_promotions_at_once_the_second_is_told_and_changes_nothing(registry, registered: Registered, judged):
    registered(seed=0)
    registered(seed=1)
    one, other = judged("lapa-policy/1"), judged("lapa-policy/2")
    carry_out(registry, one)
    with pytest.raises(PromotionConflict, match="Nothing was changed"):
        carry_out(registry, other)
    assert registry.aliases(POLICY_MODEL)["production"] == 1


def test_of_entries_with_one_base_the_first_counts(registry, registered: Registered):
    """What the check of the alias cannot see: both looked before either moved it."""
    registered(seed=0)
    source = registry.get(POLICY_MODEL, 1).url
    ledger.claim(registry, POLICY_MODEL, source, Decision(version=1, replaces=None, who="ada"), base=0)
    with pytest.raises(PromotionConflict, match="ada promoted lapa-policy/1 while"):
        ledger.claim(registry, POLICY_MODEL, source, Decision(version=2, replaces=None, who="bob"), base=0)
    assert [entry.decision.who for entry in ledger.read_ledger(registry, POLICY_MODEL)] == ["ada"]


def test_a_promotion_that_died_before_its_aliases_is_finished_by_the_next(registry, registered: Registered):
    registered(seed=0)
    source = registry.get(POLICY_MODEL, 1).url
    ledger.claim(registry, POLICY_MODEL, source, Decision(version=1, replaces=None, who="ada"), base=0)
    assert "production" not in registry.aliases(POLICY_MODEL)
    assert open_case(registry, POLICY_MODEL).is_in_production


def test_an_alias_that_was_moved_by_hand_is_noticed(registry, registered: Registered, judged):
    registered(seed=0)
    registered(seed=1)
    waiting = judged("lapa-policy/2")
    registry.set_alias(POLICY_MODEL, "production", 1)
    with pytest.raises(PromotionConflict, match="is 1 now"):
        carry_out(registry, waiting)
    assert "past `lapactl promote`" in describe(registry, registry.get(POLICY_MODEL, 1))["warnings"][0]


def test_an_approval_counts_when_it_is_somebody_elses(registry, records, registered: Registered):
    version = registered()
    gates = PromotionConfig.model_validate({"gates": [{"kind": "files"}, {"kind": "approval"}]})
    approve(registry, version, "ada", "I trained it")
    own = attempt(registry, records, open_case(registry, POLICY_MODEL), gates, who="ada")
    assert outcomes(own)["approval"] == "failed"
    approve(registry, version, "grace", "saw ten runs on the bench")
    seen = attempt(registry, records, open_case(registry, POLICY_MODEL), gates, who="ada")
    assert outcomes(seen)["approval"] == "passed"
    carry_out(registry, seen)
    assert json.loads(registry.get(POLICY_MODEL, 1).tags["lapa.approval.grace"])["reason"].startswith("saw ten")


def test_a_licence_of_the_pretraining_videos_counts(registry, registered: Registered, judged):
    registered(licence="CC-BY-NC-4.0")
    verdict = next(verdict for verdict in judged().report.verdicts if verdict.gate == "licence")
    assert verdict.is_failure and "CC-BY-NC-4.0 (2 episodes)" in verdict.found


def test_without_its_gates_only_what_was_in_production_before_comes_back(registry, registered: Registered, judged):
    registered()
    carry_out(registry, judged())
    registered(seed=1, successes=57)
    with pytest.raises(ConfigError, match=r"lapa-policy/2 is not .* is no version\)"):
        restore_previous(registry, open_case(registry, POLICY_MODEL), who="bob", reason="")
    assert registry.aliases(POLICY_MODEL) == {"candidate": 2, "production": 1}


def test_names_that_mean_nothing_are_explained(registry, registered: Registered):
    registered()
    with pytest.raises(NotRegistered, match="Did you mean 'lapa-policy'"):
        resolve(registry, "lapa-polcy@candidate")
    with pytest.raises(NotRegistered, match=r"no alias 'production'; it has: candidate \(version 1\)"):
        resolve(registry, "lapa-policy@production")
    with pytest.raises(ConfigError, match="names no version"):
        parse_reference("lapa-policy/latest")
