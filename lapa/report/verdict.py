"""The page's first words: what the run found, whether to believe it, and what to change."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from lapa.report import findings, findings_success
from lapa.report.changes import command_with
from lapa.report.findings import LEVELS, Finding
from lapa.report.health import CodeHealth, judge
from lapa.report.summary import RunSummary


class Verdict(BaseModel):
    """The finding that matters most, then the others."""

    model_config = ConfigDict(frozen=True)

    main: Finding
    others: tuple[Finding, ...]
    command: str
    """The run again with the changes; empty when there are none."""
    distrust: dict[str, str]
    """Anchor of a section -> why not to trust what it shows."""


def reach_verdict(summary: RunSummary) -> Verdict:
    """What a reader should know first."""
    health = judge(summary.main.stage("laq"), summary.config)
    found = sorted(_findings(summary, health), key=lambda finding: LEVELS.index(finding.level))
    success = next((finding for finding in found if finding.topic == "Success"), None)
    # What is wrong comes first; otherwise the question that the run was made for.
    main = found[0] if found[0].level == "wrong" or success is None else success
    has_settings = any(change.sets for change in main.changes)
    return Verdict(
        main=main,
        others=tuple(finding for finding in found if finding is not main),
        command=command_with(summary.command, main.changes, name=f"{summary.name}-2") if has_settings else "",
        distrust=_distrust(summary, health),
    )


def _findings(summary: RunSummary, health: CodeHealth) -> Iterator[Finding]:
    yield from findings.divergence(summary)
    yield from findings.codes(health)
    yield from findings.motion(summary, health)
    yield from findings.pretraining(summary, health)
    yield from findings_success.success(summary, health)
    yield from findings_success.held_out(summary)
    yield from findings_success.oracle(summary)
    yield from findings.data(summary)
    yield from findings.progress(summary)


def _distrust(summary: RunSummary, health: CodeHealth) -> dict[str, str]:
    if health.verdict != "collapsed":
        return {}
    reasons = {
        "meaning": "the codebook collapsed, so these probes and pictures are about one code only.",
        "curves": "the codebook collapsed, so the accuracy of stage pretrain is that of guessing the only code.",
    }
    if summary.main.outcomes:
        reasons["success"] = (
            "the codebook collapsed, so nothing here tells what latent actions are worth. A difference to a run from "
            "scratch comes from other things, such as the backbone having seen the videos at all."
        )
    return reasons
