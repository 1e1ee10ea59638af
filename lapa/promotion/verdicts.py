"""What a gate says, and what all of them say together."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from lapa.tracking.ledger import Decision


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Verdict(_Record):
    """One gate's."""

    gate: str = ""
    outcome: Literal["passed", "failed", "skipped"]
    """`skipped`: the gate has nothing to ask of this policy, such as a codebook where none was used."""
    found: str
    """What there is, in words and numbers."""
    wanted: str
    """The rule."""
    remedy: str = ""
    """The next move after a failure."""
    is_overrulable: bool = True

    @property
    def is_failure(self) -> bool:
        return self.outcome == "failed"


class Approval(_Record):
    """Somebody's word for a version."""

    who: str
    reason: str
    when: str


class PromotionReport(_Record):
    """Everything about one attempt to promote; kept in MLflow as JSON and as a page."""

    model: str
    version: int
    digest: str
    url: str
    production: int | None
    """What was in production while the gates judged."""
    who: str
    when: str
    verdicts: tuple[Verdict, ...]
    approvals: tuple[Approval, ...] = ()
    forced: tuple[str, ...] = ()
    """Failed gates that were overruled."""
    reason: str = ""
    gates: str
    """The gates file, resolved."""

    @property
    def failures(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.is_failure)

    @property
    def passes(self) -> bool:
        """Whether the gates, or force, let it pass."""
        return all(verdict.gate in self.forced for verdict in self.failures)

    def decision(self, report_run: str) -> Decision:
        """As the ledger has it."""
        return Decision(
            version=self.version,
            replaces=self.production,
            who=self.who,
            reason=self.reason,
            approvals=tuple(approval.who for approval in self.approvals),
            forced=self.forced,
            report_run=report_run,
        )


def passed(found: str, wanted: str) -> Verdict:
    return Verdict(outcome="passed", found=found, wanted=wanted)


def failed(found: str, wanted: str, remedy: str) -> Verdict:
    return Verdict(outcome="failed", found=found, wanted=wanted, remedy=remedy)


def skipped(why: str, wanted: str) -> Verdict:
    return Verdict(outcome="skipped", found=why, wanted=wanted)
