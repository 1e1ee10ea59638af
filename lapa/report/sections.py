"""Turns a `RunSummary` into what the page's sections show: charts chosen, rows ordered, numbers worded."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from lapa.report.charts import Chart, Reference, draw
from lapa.report.health import perplexity_per_position, validation_value
from lapa.report.summary import (
    ArmSummary,
    ArtifactSummary,
    CodebookRules,
    Picture,
    RunSummary,
    Series,
    StageSummary,
)

TRAINED = ("laq", "pretrain", "finetune")
QUIET = ("learning_rate", "gradient_norm", "speed/")
"""Curves that stand behind a click."""
SPLITS = {"train": 0, "validation": 1}
"""Colour of each split, the same in every chart."""
CODEBOOK = ("perplexity", "joint_", "dead_", "relative_error", "probe_r2", "revived_codes",
            "reconstruction_error", "copy_error")  # fmt: skip
"""How the names of the codebook's own metrics begin."""


@dataclass(frozen=True, kw_only=True)
class SuccessRow:
    """One line of the success plot; shares in [0, 1]."""

    label: str
    kind: str
    """`policy`, `baseline` or `oracle`."""
    rate: float
    low: float
    high: float
    episodes: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ErrorTable:
    """Held-out action error: one row per action dimension, one column per arm."""

    columns: list[str]
    rows: list[tuple[str, list[float], float]]
    """Dimension, error per arm, error of always answering the mean action."""
    ratios: list[float]


@dataclass(frozen=True, kw_only=True)
class LineageStep:
    """One stage: what went in, what came out."""

    stage: StageSummary
    inputs: list[tuple[str, ArtifactSummary, bool]]
    """Name, artifact, and whether an earlier step of the list made it."""


def success_rows(summary: RunSummary) -> list[SuccessRow]:
    """The policy, its baselines best first, then the oracle; those that were evaluated in closed loop."""
    rows = [row for arm in summary.arms if (row := _success(arm)) is not None]
    rows.sort(key=lambda row: (row.kind != "policy", -row.rate))
    evaluated = [stage.metrics for arm in summary.arms if (stage := arm.stage("evaluate")) is not None]
    if driven := [metrics for metrics in evaluated if "oracle_success_rate" in metrics]:
        rows.append(_row(driven[0], "oracle_", "scripted oracle", "oracle", "knows the true state"))
    return rows


def success_by_kind(summary: RunSummary) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """Arms, and per kind of task each arm's success rate."""
    prefix = "success_rate/"
    stages = [(arm.name, stage) for arm in summary.arms if (stage := arm.stage("evaluate")) and _success(arm)]
    kinds = list(dict.fromkeys(name[len(prefix) :] for _, s in stages for name in s.metrics if name.startswith(prefix)))
    table = [(kind, [stage.metrics.get(prefix + kind, math.nan) for _, stage in stages]) for kind in kinds]
    return [name for name, _ in stages], table


def held_out(summary: RunSummary) -> ErrorTable | None:
    """Mean absolute error per action dimension; None before any arm was evaluated."""
    prefix = "held_out/mae/"
    stages = [(arm.name, s) for arm in summary.arms if (s := arm.stage("evaluate")) and "held_out/ratio" in s.metrics]
    if not stages:
        return None
    names = list(dict.fromkeys(key[len(prefix) :] for _, s in stages for key in s.metrics if key.startswith(prefix)))
    first = stages[0][1].metrics
    return ErrorTable(
        columns=[arm for arm, _ in stages],
        rows=[
            (
                name,
                [stage.metrics.get(prefix + name, math.nan) for _, stage in stages],
                first.get(f"held_out/mean_action_mae/{name}", math.nan),
            )
            for name in names
        ],
        ratios=[stage.metrics["held_out/ratio"] for _, stage in stages],
    )


def codebook_charts(stage: StageSummary | None, rules: CodebookRules) -> list[Markup]:
    """Usage of the codes over training."""
    if stage is None:
        return []
    history, size = stage.history, rules.codebook_size
    line = Reference(value=rules.min_perplexity, label="collapsed below")
    usage = {split: history[f"{split}/perplexity"] for split in SPLITS if f"{split}/perplexity" in history}
    positions = {f"position {place}": points for place, points in sorted(perplexity_per_position(stage).items())}
    shares = {"dead codes": "dead_share", "latent actions seen": "joint_coverage"}
    probes = {name.removeprefix("validation/probe_r2/"): p for name, p in history.items() if "/probe_r2/" in name}
    joint = _validation(stage, {"validation": "joint_perplexity"})
    errors = {"model": "reconstruction_error", "copying the current frame": "copy_error"}
    relative = _validation(stage, {"validation": "relative_error"})
    charts = [
        Chart(title="Codes in use (perplexity)", series=usage, unit=f"of {size}", low=0.0, high=float(size),
              references=(line,), styles=SPLITS),
        Chart(title="Perplexity per position", series=positions, unit=f"of {size}", low=0.0, high=float(size),
              references=(line,)),
        Chart(title="Latent actions in use", series=joint,
              unit=f"of {size**rules.codes_per_pair:,}", low=0.0, styles=SPLITS),
        Chart(title="Dead codes, joint coverage", series=_validation(stage, shares), unit="share", low=0.0, high=1.0),
        Chart(title="Error relative to copying the frame", series=relative, low=0.0,
              references=(Reference(value=1.0, label="no better than copying"),), styles=SPLITS),
        Chart(title="Squared error of the predicted frame", series=_validation(stage, errors), low=0.0),
        Chart(title="True motion read off the codes", series=probes, unit="R² of a linear probe", high=1.0),
    ]  # fmt: skip
    return [drawn for chart in charts if (drawn := draw(chart))]


def curve_groups(stage: StageSummary) -> tuple[list[Markup], list[Markup]]:
    """A stage's curves, losses first; and those that stand behind a click."""
    groups: dict[str, dict[str, Series]] = {}
    for name, points in stage.history.items():
        split, _, metric = name.partition("/")
        if split not in SPLITS:
            split, metric = "", name
        if metric.startswith(("system/", *(CODEBOOK if stage.stage == "laq" else ()))):
            continue  # the codebook's curves have a section of their own
        groups.setdefault(metric, {})[split or metric] = points
    shown: list[Markup] = []
    behind: list[Markup] = []
    for metric in sorted(groups, key=_importance):
        chart = Chart(title=_title(metric), series=groups[metric], styles=SPLITS)
        if drawn := draw(chart):
            (behind if any(word in metric for word in QUIET) else shown).append(drawn)
    return shown, behind


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
        remark = f"{row.low:.0%} to {row.high:.0%}, {row.episodes} episodes"
        facts.append(("Closed-loop success", f"{row.rate:.0%}", remark))
        baselines = [other for other in rows if other.kind == "baseline"]
        if baselines:
            best = baselines[0]
            facts.append((f"Best baseline ({best.label})", f"{best.rate:.0%}", f"{best.low:.0%} to {best.high:.0%}"))
    if table := held_out(summary):
        facts.append(("Held-out action error", f"{table.ratios[0]:.2f}", "of always answering the mean action"))
    laq = summary.main.stage("laq")
    if laq is not None and (perplexity := validation_value(laq, "perplexity")) is not None:
        facts.append(("Codes in use", f"{perplexity:.1f}", f"of {summary.codebook.codebook_size}, per position"))
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


def _success(arm: ArmSummary) -> SuccessRow | None:
    stage = arm.stage("evaluate")
    if stage is None or "success_rate" not in stage.metrics:
        return None
    kind = "baseline" if arm.is_baseline else "policy"
    return _row(stage.metrics, "", arm.name, kind, ", ".join(arm.differs))


def _row(metrics: dict[str, float], prefix: str, label: str, kind: str, note: str) -> SuccessRow:
    rate = metrics[f"{prefix}success_rate"]
    return SuccessRow(
        label=label,
        kind=kind,
        rate=rate,
        low=metrics.get(f"{prefix}success_low", rate),
        high=metrics.get(f"{prefix}success_high", rate),
        episodes=int(metrics.get(f"{prefix}episodes", 0)),
        note=note,
    )


def _validation(stage: StageSummary, names: dict[str, str]) -> dict[str, Series]:
    """Label -> the validations' series of a metric, where it was logged."""
    return {label: points for label, name in names.items() if (points := stage.history.get(f"validation/{name}"))}


def _title(metric: str) -> str:
    words = metric.removeprefix("loss/").replace("_", " ").replace("/", ", ")
    return "Loss" if words == "total" else words[:1].upper() + words[1:]


def _importance(metric: str) -> tuple[bool, bool, bool, str]:
    return (metric not in ("total", "loss"), "loss" not in metric, "accuracy" not in metric, metric)
