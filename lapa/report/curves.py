"""Which curves are drawn of a stage, and how they are grouped."""

from markupsafe import Markup

from lapa.config.run import RunConfig
from lapa.report.charts import Chart, Reference, draw
from lapa.report.health import REPAIRED, CodeHealth, perplexity_per_position
from lapa.report.summary import Series, StageSummary

QUIET = ("learning_rate", "gradient_norm", "speed/")
"""Curves that stand behind a click."""
SPLITS = {"train": 0, "validation": 1}
"""Style of each split, the same in every chart."""
CODEBOOK = ("perplexity", "joint_", "dead_", "relative_error", "probe_r2", "revived_codes",
            "reconstruction_error", "copy_error")  # fmt: skip
"""How the names of the codebook's own metrics begin."""


def usage_chart(stage: StageSummary, run: RunConfig, health: CodeHealth) -> Markup:
    """Codes in use over training, with the line below which they count as collapsed."""
    size = run.laq.model.codebook_size
    usage = {split: stage.history.get(f"{split}/perplexity", []) for split in SPLITS}
    since = None if health.since is None else Reference(value=health.since, label=f"collapsed: step {health.since:,}")
    return draw(
        Chart(title="Codes in use (perplexity)", series=usage, unit=f"of {size}", low=0.0, high=float(size),
              references=(_collapse_line(run.laq.health.min_perplexity),), since=since, styles=SPLITS)
    )  # fmt: skip


def codebook_charts(stage: StageSummary | None, run: RunConfig, health: CodeHealth) -> list[Markup]:
    """Usage of the codes over training, then what they are good for."""
    if stage is None or health.verdict == "no codes":
        return []
    model, history = run.laq.model, stage.history
    size, line = model.codebook_size, _collapse_line(run.laq.health.min_perplexity)
    positions = {f"position {place}": points for place, points in sorted(perplexity_per_position(stage).items())}
    shares = {"dead codes": "dead_share", "latent actions seen": "joint_coverage"}
    probes = {name.removeprefix("validation/probe_r2/"): p for name, p in history.items() if "/probe_r2/" in name}
    joint = _validation(stage, {"validation": "joint_perplexity"})
    errors = {"model": "reconstruction_error", "copying the current frame": "copy_error"}
    relative = _validation(stage, {"validation": "relative_error"})
    revived = {"unused": history.get("train/revived_codes", []), "all, after a collapse": history.get(REPAIRED, [])}
    charts = [
        Chart(title="Perplexity per position", series=positions, unit=f"of {size}", low=0.0, high=float(size),
              references=(line,)),
        Chart(title="Latent actions in use", series=joint, unit=f"of {size**model.codes_per_pair:,}", low=0.0,
              high=float(size), references=(_collapse_line(run.laq.health.min_joint_perplexity),), styles=SPLITS),
        Chart(title="Dead codes, joint coverage", series=_validation(stage, shares), unit="share", low=0.0, high=1.0),
        Chart(title="Codes restarted", series=revived, unit="since the last check", low=0.0),
        Chart(title="Error relative to copying the frame", series=relative, low=0.0,
              references=(Reference(value=1.0, label="no better than copying"),), styles=SPLITS),
        Chart(title="Squared error of the predicted frame", series=_validation(stage, errors), low=0.0),
        Chart(title="True motion read off the codes", series=probes, unit="R² of a linear probe", high=1.0,
              references=_gate(run)),
    ]  # fmt: skip
    return [drawn for drawn in (usage_chart(stage, run, health), *map(draw, charts)) if drawn]


def curve_groups(stage: StageSummary) -> tuple[list[Markup], list[Markup]]:
    """A stage's curves, losses first; and those that stand behind a click."""
    groups: dict[str, dict[str, Series]] = {}
    for name, points in stage.history.items():
        split, _, metric = name.partition("/")
        if split not in SPLITS:
            split, metric = "", name
        metric = "total" if metric == "loss" else metric  # what finetuning's validation calls the same
        if metric.startswith(("system/", *(CODEBOOK if stage.stage == "laq" else ()))):
            continue  # the codebook's curves have a section of their own
        groups.setdefault(metric, {})[split or metric] = points
    shown: list[Markup] = []
    behind: list[Markup] = []
    for metric in sorted(groups, key=_importance):
        chart = Chart(title=_title(metric), series=groups[metric], styles=SPLITS)
        if drawn := draw(chart):
            is_shown = _importance(metric)[0] < 2 and not any(word in metric for word in QUIET)
            (shown if is_shown else behind).append(drawn)
    return shown, behind


def _collapse_line(limit: float) -> Reference:
    return Reference(value=limit, label=f"collapsed below {limit:g}")


def _gate(run: RunConfig) -> tuple[Reference, ...]:
    return (Reference(value=run.laq.gate.min_r2, label="enough to stop"),) if run.laq.gate else ()


def _validation(stage: StageSummary, names: dict[str, str]) -> dict[str, Series]:
    """Label -> the validations' series of a metric, where it was logged."""
    return {label: points for label, name in names.items() if (points := stage.history.get(f"validation/{name}"))}


def _title(metric: str) -> str:
    words = metric.removeprefix("loss/").replace("_", " ").replace("/", ", ")
    return "Loss" if words == "total" else words[:1].upper() + words[1:]


def _importance(metric: str) -> tuple[int, str]:
    """Losses, then accuracies and errors of all dimensions together, then the rest."""
    if metric in ("total", "loss") or "loss" in metric:
        return (0, metric)
    is_main = metric.startswith("accuracy") or metric in ("mae", "normalized_mae")
    return (1 if is_main else 2, metric)
