"""Turns a `RunSummary` into the rest of what the page shows: figures at its top, pictures, episodes, lineage."""

import math
from dataclasses import dataclass

from lapa.report.health import perplexity_per_position
from lapa.report.success import held_out, success_rows
from lapa.report.summary import ArmSummary, ArtifactSummary, Picture, RunSummary, StageSummary


@dataclass(frozen=True, kw_only=True)
class LineageStep:
    """One stage: what went in, what came out."""

    stage: StageSummary
    inputs: list[tuple[str, ArtifactSummary, bool]]
    """Name, artifact, and whether an earlier step of the list made it."""


def lineage(arm: ArmSummary) -> list[LineageStep]:
    """The finished stages of an arm in order, with their inputs matched to what came before."""
    made: set[str] = set()
    steps = []
    for stage in arm.stages:
        if stage.state != "done":
            continue
        inputs = [(name, artifact, artifact.digest in made) for name, artifact in stage.inputs.items()]
        steps.append(LineageStep(stage=stage, inputs=inputs))
        made |= {artifact.digest for artifact in stage.outputs.values()}
    return steps


def pictures_named(summary: RunSummary, word: str) -> list[Picture]:
    """The run's own pictures whose name holds a word."""
    return [picture for stage in summary.main.stages for picture in stage.pictures if word in picture.name]


def other_pictures(summary: RunSummary, *words: str) -> list[Picture]:
    return [p for stage in summary.main.stages for p in stage.pictures if not any(word in p.name for word in words)]


def headline_numbers(summary: RunSummary) -> list[tuple[str, str, str]]:
    """Label, number and remark of the figures at the top of the page."""
    facts = []
    rows = success_rows(summary)
    if rows and rows[0].kind == "policy":
        row = rows[0]
        facts.append(("Closed-loop success", f"{row.rate:.0%}", f"{row.low:.0%} to {row.high:.0%}, {row.count}"))
        if baselines := [other for other in rows if other.kind == "baseline"]:
            best = baselines[0]
            facts.append((f"Best baseline ({best.label})", f"{best.rate:.0%}", f"{best.low:.0%} to {best.high:.0%}"))
    if table := held_out(summary):
        facts.append(("Held-out action error", f"{table.ratios[0]:.2f}", "of always answering the mean action"))
    laq = summary.main.stage("laq")
    if laq is not None and (positions := perplexity_per_position(laq)):
        used = " · ".join(f"{points[-1][1]:.1f}" for points in positions.values())
        facts.append(("Codes in use", used, f"of {summary.config.laq.model.codebook_size}, at each position"))
    if hours := sum(dataset.hours for dataset in summary.datasets):
        facts.append(("Data", _rounded(3600 * hours), f"{sum(d.episodes for d in summary.datasets):,} episodes"))
    if seconds := sum(stage.seconds for stage in summary.main.stages):
        facts.append(("Time, all stages", _rounded(seconds), "of this run, without its baselines"))
    return facts


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _rounded(seconds: float) -> str:
    """One number and its unit: `11 min`."""
    limits = ((90.0, 1.0, "s"), (5400.0, 60.0, "min"), (math.inf, 3600.0, "h"))
    _, size, unit = next(limit for limit in limits if seconds < limit[0])
    return f"{seconds / size:.2g} {unit}" if seconds / size < 10 else f"{seconds / size:,.0f} {unit}"
