"""Promotion: judge a version, keep the evidence, enter the decision, move the aliases. In this order.

Whatever fails in between, the aliases are either as they were, or say what the ledger says; `settle` finishes what
somebody else began.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from lapa.errors import ConfigError, PromotionConflict, PromotionRefused
from lapa.promotion.config import PromotionConfig, dump_gates
from lapa.promotion.evidence import RegistryEvidence
from lapa.promotion.gates import judge
from lapa.promotion.page import headline, report_page
from lapa.promotion.verdicts import Approval, PromotionReport
from lapa.tracking import ledger
from lapa.tracking.ledger import PREVIOUS, PRODUCTION, Decision
from lapa.tracking.records import Record, Records
from lapa.tracking.references import resolve
from lapa.tracking.registry import ModelVersion, Registry

GATE_TAG = "lapa.gate."
APPROVAL_TAG = "lapa.approval."
FORCED_TAG = "lapa.forced."
REPORT_TAG = "lapa.report"
REPORT_JSON, REPORT_PAGE = "promotion/report.json", "promotion/report.html"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A judged promotion that has not moved anything yet."""

    report: PromotionReport
    record: Record
    """Where the report is kept."""
    base: int
    """The ledger entry it was decided after."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is to be judged."""

    version: ModelVersion
    production: ModelVersion | None
    base: int

    @property
    def is_in_production(self) -> bool:
        return self.production is not None and self.production.version == self.version.version


def open_case(registry: Registry, reference: str) -> Case:
    """The version that a reference means (`@candidate` by default) and what it would replace. Finishes an earlier
    promotion that was interrupted. NotRegistered where there is no such version."""
    version = resolve(registry, reference)
    base = ledger.head_of(ledger.settle(registry, version.name))
    number = registry.aliases(version.name).get(PRODUCTION)
    production = None if number is None else registry.get(version.name, number)
    return Case(version=registry.get(version.name, version.version), production=production, base=base)


def approve(registry: Registry, version: ModelVersion, who: str, reason: str) -> ModelVersion:
    """Put somebody's approval on record."""
    given = Approval(who=who, reason=reason, when=_now())
    registry.set_tags(version.name, version.version, {APPROVAL_TAG + who: given.model_dump_json()})
    return registry.get(version.name, version.version)


def approvals_of(version: ModelVersion) -> tuple[Approval, ...]:
    given = [Approval.model_validate_json(v) for k, v in version.tags.items() if k.startswith(APPROVAL_TAG)]
    return tuple(sorted(given, key=lambda approval: approval.when))


def attempt(
    registry: Registry,
    records: Records,
    case: Case,
    gates: PromotionConfig,
    *,
    who: str,
    reason: str = "",
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Attempt:
    """Judge the version and keep the report; nothing is promoted yet. With `force`, failed gates are overruled but
    for those that cannot be. TrackingError when the report could not be kept."""
    version, approvals = case.version, approvals_of(case.version)
    evidence = RegistryEvidence(registry, records, version, case.production, who=who, approvals=approvals)
    verdicts = judge(gates, evidence, progress=progress)
    overruled = [verdict.gate for verdict in verdicts if force and verdict.is_failure and verdict.is_overrulable]
    report = PromotionReport(
        model=version.name,
        version=version.version,
        digest=version.digest,
        url=version.url,
        production=None if case.production is None else case.production.version,
        who=who,
        when=_now(),
        verdicts=verdicts,
        approvals=approvals,
        forced=tuple(overruled),
        reason=reason,
        gates=dump_gates(gates),
    )
    return Attempt(report=report, record=_keep(registry, records, report), base=case.base)


def refuse_if_failed(report: PromotionReport) -> None:
    """PromotionRefused when a gate failed that nobody overruled."""
    if report.passes:
        return
    failures = [verdict for verdict in report.failures if verdict.gate not in report.forced]
    names = ", ".join(verdict.gate for verdict in failures)
    firm = ", ".join(verdict.gate for verdict in failures if not verdict.is_overrulable)
    force = f"Not to be overruled: {firm}." if firm else "`--force --reason WHY` overrules, for all to see."
    refused = f"{report.model}/{report.version} is not promoted, nothing was changed: {names} failed."
    raise PromotionRefused(f"{refused} {force}")


def carry_out(registry: Registry, attempt: Attempt) -> None:
    """Move the aliases. PromotionRefused when a gate failed, PromotionConflict when somebody else was first."""
    report = attempt.report
    refuse_if_failed(report)
    _refuse_if_moved(registry, report)
    if report.forced:
        told = {"who": report.who, "when": report.when, "reason": report.reason, "gates": report.forced}
        registry.set_tags(report.model, report.version, {FORCED_TAG + attempt.record.run_id: json.dumps(told)})
    ledger.claim(registry, report.model, report.url, report.decision(attempt.record.run_id), base=attempt.base)
    ledger.apply(registry, report.model)


def restore_previous(registry: Registry, case: Case, *, who: str, reason: str) -> None:
    """Take the last promotion back: `previous` becomes `production`, and the other way round. No gate is asked: it was
    in production before. ConfigError for any other version, PromotionConflict when somebody else was first."""
    version, production = case.version, case.production
    previous = registry.aliases(version.name).get(PREVIOUS)
    if production is None or version.version != previous:
        raise ConfigError(
            f"{version.name}/{version.version} is not what was in production before (`previous` is "
            f"{'no version' if previous is None else f'version {previous}'}), so its gates are asked: leave out --back."
        )
    decision = Decision(version=version.version, replaces=production.version, who=who, kind="rollback", reason=reason)
    ledger.claim(registry, version.name, version.url, decision, base=case.base)
    ledger.apply(registry, version.name)


def _refuse_if_moved(registry: Registry, report: PromotionReport) -> None:
    """The ledger sees every promotion; this sees an alias that was moved by hand."""
    now = registry.aliases(report.model).get(PRODUCTION)
    if now != report.production:
        raise PromotionConflict(
            f"production of {report.model} was version {report.production} when the gates judged, and is {now} now. "
            "Nothing was changed; repeat the command to be judged against what is there."
        )


def _keep(registry: Registry, records: Records, report: PromotionReport) -> Record:
    record = records.keep(
        f"promote-{report.model}-{report.version}",
        tags={
            "lapa.stage": "promote",
            "lapa.model": f"{report.model}/{report.version}",
            "lapa.verdict": headline(report),
            "lapa.who": report.who,
        },
        texts={REPORT_JSON: report.model_dump_json(indent=2), REPORT_PAGE: report_page(report)},
    )
    tags = {GATE_TAG + verdict.gate: f"{verdict.outcome}: {verdict.found}" for verdict in report.verdicts}
    registry.set_tags(report.model, report.version, {**tags, REPORT_TAG: record.run_id})
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
