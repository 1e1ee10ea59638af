"""Several runs side by side as one self-contained HTML page."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from markupsafe import Markup

from lapa.report.charts import Chart, Reference, draw
from lapa.report.comparison import Comparison
from lapa.report.page import environment
from lapa.report.success import IntervalRow, arm_row, success_tables
from lapa.report.summary import ArmSummary, Series

CURVES: tuple[tuple[str, str, str], ...] = (
    ("laq", "perplexity", "Codes in use (perplexity)"),
    ("laq", "joint_perplexity", "Latent actions in use (perplexity)"),
    ("laq", "dead_share", "Dead codes (share)"),
    ("laq", "relative_error", "Error relative to copying the frame"),
    ("laq", "probe_r2/additive", "True motion read off the codes (R²)"),
    ("laq", "total", "Loss of laq"),
    ("pretrain", "accuracy/latent_action", "Latent actions predicted in pretraining"),
    ("pretrain", "total", "Loss of pretrain"),
    ("finetune", "mae", "Action error in finetuning (MAE)"),
    ("finetune", "total", "Loss of finetune"),
)
"""Stage, metric, title; of the validations where there are some, else of training."""


def build_comparison(comparison: Comparison) -> str:
    """The page. Everything that came from data is escaped."""
    confidence = comparison.runs[0].confidence
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            rows=list(zip(comparison.names, comparison.runs, comparison.verdicts, strict=True)),
            success=[row for row in comparison.success if row is not None],
            baselines=baseline_rows(comparison),
            tables=success_tables(comparison.arms, confidence),
            confidence=confidence,
            charts=overlaid(comparison.arms, _limit(comparison)),
        )
    )


def baseline_rows(comparison: Comparison) -> list[IntervalRow]:
    """Baselines of all runs, those that several runs share once."""
    found: dict[str, IntervalRow] = {}
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        for arm in run.arms[1:]:
            evaluated = arm.stage("evaluate")
            if evaluated is not None and (row := arm_row(arm)) is not None:
                found.setdefault(evaluated.folder, replace(row, label=f"{arm.name} of {name}"))
    return sorted(found.values(), key=lambda row: -row.rate)


def overlaid(arms: Sequence[ArmSummary], limit: float | None) -> list[Markup]:
    """Each curve with one line per run."""
    drawn = []
    for stage, metric, title in CURVES:
        series = {arm.name: points for arm in arms if (points := _points(arm, stage, metric))}
        is_usage = metric in ("perplexity", "joint_perplexity")
        lines = (Reference(value=limit, label=f"collapsed below {limit:g}"),) if is_usage and limit else ()
        styles = {arm.name: place for place, arm in enumerate(arms)}
        chart = Chart(title=title, series=series, references=lines, styles=styles, low=0.0 if is_usage else None)
        if figure := draw(chart):
            drawn.append(figure)
    return drawn


def _points(arm: ArmSummary, stage: str, metric: str) -> Series:
    summary = arm.stage(stage)
    if summary is None:
        return []
    return next((found for name in _names(metric) if (found := summary.history.get(name))), [])


def _names(metric: str) -> Iterable[str]:
    return (f"train/{metric}",) if metric == "total" else (f"validation/{metric}", f"train/{metric}")


def _limit(comparison: Comparison) -> float | None:
    """The line below which a codebook counts as collapsed, where the runs agree on it."""
    limits = {run.config.laq.health.min_perplexity for run in comparison.runs}
    return limits.pop() if len(limits) == 1 else None
