"""Each gate, from facts to a verdict, without a registry."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from lapa.errors import PolicyError, TrackingError
from lapa.promotion import config as settings
from lapa.promotion.gates import judge, verdict
from lapa.promotion.lineage import Origin
from lapa.promotion.verdicts import Approval
from lapa.tracking.evidence import Evaluation, Outcome, evaluation_tags
from lapa.tracking.registry import LAQ_MODEL, ModelVersion

REHEARSAL = {
    "digest": "d", "load_seconds": 2.0, "device": "cpu", "calls": 50, "horizon": 2, "action_dims": 3,
    "p50_milliseconds": 4.0, "p99_milliseconds": 40.0,
}  # fmt: skip


def model(version: int = 1, name: str = "lapa-policy", **tags: str) -> ModelVersion:
    digest = {"lapa.digest": "d"}
    return ModelVersion(
        name=name, version=version, source="there", run_id="r", tags=digest | tags, aliases=(), created_ms=0,
        description="",
    )  # fmt: skip


def evaluated(version: int, pattern: str, benchmark: str = "b1") -> tuple[ModelVersion, tuple[Outcome, ...]]:
    """A version and its outcomes: `1` is a success."""
    outcomes = tuple(Outcome(seed=i, kind="reach", is_success=mark == "1") for i, mark in enumerate(pattern))
    evaluation = Evaluation(
        benchmark=benchmark, simulator="tabletop", episodes=len(pattern), successes=pattern.count("1"),
        url=f"v{version}", digest="", run_id="",
    )  # fmt: skip
    return model(version, **evaluation_tags(evaluation)), outcomes


@dataclass
class Facts:
    """Evidence that is simply there."""

    version: ModelVersion = field(default_factory=model)
    production: ModelVersion | None = None
    who: str = "ada"
    approvals: tuple[Approval, ...] = ()
    digest: str = "d"
    card: dict[str, Any] = field(default_factory=lambda: {"run": {"seed": 0}, "licences": {"MIT": 3}})
    origin: Origin = field(default_factory=lambda: Origin(role="lapa-policy", url="there", digest="d"))
    known: dict[str, tuple[Outcome, ...]] = field(default_factory=dict)
    rehearsed: dict[str, Any] = field(default_factory=lambda: dict(REHEARSAL))

    def outcomes(self, evaluation: Evaluation) -> tuple[Outcome, ...]:
        return self.known[evaluation.url]

    def rehearsal(self, python: str | None, calls: int, timeout_seconds: float) -> dict[str, Any]:
        return self.rehearsed


def with_success(pattern: str) -> Facts:
    version, outcomes = evaluated(2, pattern)
    return Facts(version=version, known={"v2": outcomes})


def against_production(mine: str, theirs: str, benchmark: str = "b1") -> Facts:
    version, outcomes = evaluated(2, mine)
    production, others = evaluated(1, theirs, benchmark)
    return Facts(version=version, production=production, known={"v2": outcomes, "v1": others})


def with_codebook(**metrics: float) -> Facts:
    tags = {f"lapa.metric.{name}": str(value) for name, value in metrics.items()}
    laq = Origin(role="laq", url="", digest="q", version=model(3, LAQ_MODEL, **tags))
    return Facts(origin=Origin(role="lapa-policy", url="", digest="d", inputs=(laq,)))


@pytest.mark.parametrize(
    ("pattern", "outcome", "said"),
    [
        ("1" * 45 + "0" * 15, "passed", r"75.0% \[62.8%, 84.2%\] over 60 episodes"),
        ("1" * 33 + "0" * 27, "failed", "55.0%"),  # above the line, but not surely
        ("1" * 20, "failed", "over 20 episodes"),  # all of too few
    ],
)
def test_success_counts_by_the_lower_end_of_its_interval(pattern: str, outcome: str, said: str):
    found = verdict(settings.SuccessRateGate(at_least=0.5, min_episodes=50), with_success(pattern))
    assert found.outcome == outcome and re.search(said, found.found)


def test_a_policy_that_was_never_evaluated_is_refused_with_the_next_move():
    found = verdict(settings.SuccessRateGate(), Facts())
    assert found.is_failure and "Evaluate it" in found.remedy


@pytest.mark.parametrize(
    ("mine", "theirs", "outcome"),
    [
        ("1" * 50 + "0" * 10, "1" * 50 + "0" * 10, "passed"),  # equal, episode by episode
        ("1" * 55 + "0" * 5, "1" * 50 + "0" * 10, "passed"),
        ("1" * 40 + "0" * 20, "1" * 50 + "0" * 10, "failed"),
        ("10" * 30, "01" * 30, "failed"),  # equal rates, but nothing is known of the difference
    ],
)
def test_production_is_met_episode_by_episode(mine: str, theirs: str, outcome: str):
    assert verdict(settings.NotBelowProductionGate(), against_production(mine, theirs)).outcome == outcome


def test_a_refusal_says_how_many_episodes_would_show_it():
    found = verdict(settings.NotBelowProductionGate(), against_production("10" * 30, "01" * 30))
    assert "about 272 episodes" in found.remedy


def test_another_benchmark_is_no_comparison():
    found = verdict(settings.NotBelowProductionGate(), against_production("1" * 60, "1" * 60, benchmark="b2"))
    assert found.is_failure and "no benchmark was run on both" in found.found


def test_the_first_policy_has_nothing_to_be_compared_with():
    assert verdict(settings.NotBelowProductionGate(), with_success("1")).outcome == "skipped"


@pytest.mark.parametrize(
    ("metrics", "outcome"),
    [
        ({"perplexity": 6.0, "joint_perplexity": 30.0, "dead_share": 0.1}, "passed"),
        ({"perplexity": 1.1, "joint_perplexity": 30.0, "dead_share": 0.1}, "failed"),
        ({"perplexity": 6.0, "joint_perplexity": 1.2, "dead_share": 0.1}, "failed"),
        ({"perplexity": 6.0, "joint_perplexity": 30.0, "dead_share": 0.9}, "failed"),
        ({"perplexity": 6.0}, "failed"),
    ],
)
def test_a_collapsed_codebook_is_refused(metrics: dict[str, float], outcome: str):
    assert verdict(settings.CodebookGate(), with_codebook(**metrics)).outcome == outcome


def test_a_policy_from_scratch_has_no_codebook_to_judge_but_a_broken_lineage_is_not_scratch():
    assert verdict(settings.CodebookGate(), Facts()).outcome == "skipped"
    broken = Origin(role="pretrain", url="", digest="p", gap="gone")
    facts = Facts(origin=Origin(role="lapa-policy", url="", digest="d", inputs=(broken,)))
    assert verdict(settings.CodebookGate(), facts).is_failure


@pytest.mark.parametrize(("r2", "outcome"), [(0.5, "passed"), (0.1, "failed")])
def test_the_probe_must_explain_enough(r2: float, outcome: str):
    facts = with_codebook(**{"probe_r2.additive": 0.05, "probe_r2.joint": r2})
    assert verdict(settings.ProbeGate(min_r2=0.2), facts).outcome == outcome


def test_a_metric_keeps_its_limits():
    facts = Facts(version=model(**{"lapa.metric.held_out.ratio": "0.7"}))
    assert verdict(settings.MetricGate(name="held_out/ratio", at_most=0.8), facts).outcome == "passed"
    assert verdict(settings.MetricGate(name="held_out/ratio", at_most=0.6), facts).is_failure
    assert "held_out.ratio" in verdict(settings.MetricGate(name="held_out/ratoi", at_most=1), facts).remedy


@pytest.mark.parametrize(
    ("licences", "outcome"), [({"MIT": 3}, "passed"), ({"MIT": 3, "unknown": 1}, "failed"), ({}, "failed")]
)
def test_one_episode_of_an_unknown_licence_is_enough_to_refuse(licences: dict[str, int], outcome: str):
    assert verdict(settings.LicenceGate(), Facts(card={"licences": licences})).outcome == outcome


def test_provenance_names_what_is_missing():
    found = verdict(settings.ProvenanceGate(), Facts(card={}))
    assert found.is_failure and "no dataset is behind it" in found.found and "settings" in found.found


def test_provenance_tells_commit_and_image_of_the_trainings_where_they_were_recorded():
    data = Origin(role="videos", url="there", digest="v", dataset=None)
    laq = Origin(
        role="laq", url="there", digest="l", inputs=(data,),
        version=model(name=LAQ_MODEL, **{"lapa.commit": "c0ffee", "lapa.image": "lapa-train@sha256:8f3c"}),
    )  # fmt: skip
    trained = model(**{"lapa.commit": "c0ffee with local changes"})
    found = verdict(
        settings.ProvenanceGate(),
        Facts(version=trained, origin=Origin(role="lapa-policy", url="", digest="d", version=trained, inputs=(laq,))),
    )
    assert found.outcome == "passed", found.found
    assert "trained by commit c0ffee, c0ffee with local changes, image lapa-train@sha256:8f3c" in found.found
    old = verdict(settings.ProvenanceGate(), Facts(origin=Origin(role="p", url="", digest="d", inputs=(data,))))
    assert old.outcome == "passed" and "not recorded" in old.found


def test_files_load_and_latency():
    assert verdict(settings.FilesGate(), Facts()).outcome == "passed"
    assert verdict(settings.FilesGate(), Facts(digest="other")).is_failure
    assert "carries nothing to replay" in verdict(settings.LoadsGate(), Facts()).found
    replayed = verdict(settings.LoadsGate(), Facts(rehearsed=REHEARSAL | {"replayed": 8}))
    assert replayed.outcome == "passed" and "answers 8 recorded observations as at export" in replayed.found
    assert verdict(settings.LoadsGate(), Facts(rehearsed=REHEARSAL | {"digest": "x"})).is_failure
    assert verdict(settings.LatencyGate(max_milliseconds=50), Facts()).outcome == "passed"
    assert verdict(settings.LatencyGate(max_milliseconds=30), Facts()).is_failure


class Away(Facts):
    """Every store is away."""

    def outcomes(self, evaluation: Evaluation) -> tuple[Outcome, ...]:
        raise TrackingError("MLflow is away")

    def rehearsal(self, python: str | None, calls: int, timeout_seconds: float) -> dict[str, Any]:
        raise PolicyError("S3 is away")


def test_evidence_that_cannot_be_had_fails_its_gate_and_the_others_are_judged():
    config = settings.PromotionConfig.model_validate(
        {"gates": [{"kind": "loads"}, {"kind": "success-rate"}, {"kind": "files"}]}
    )
    loads, success, whole = judge(config, Away(version=evaluated(2, "1" * 60)[0]))
    assert loads.is_failure and "S3 is away" in loads.found
    assert success.is_failure and "MLflow is away" in success.found
    assert whole.outcome == "passed" and not whole.is_overrulable and success.is_overrulable
