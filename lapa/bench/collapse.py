"""How often does a codebook collapse? The published recipe against ours, over seeds, as data.

The recipes differ in nothing but what they do about the codebook: `lapa-paper` draws it from N(0, 1) and restarts codes
on the published schedule, in the released layout; `lapa` starts it from data and restarts codes for the whole run, in a
layout that keeps positions in place. Architecture size, optimizer, data and order are the same. `tabletop` is the
tabletop preset's own convolutional model and learning rate.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

from lapa.config.latent_action import LatentActionConfig, NsvqConfig, TransformerArchitecture
from lapa.config.load import changed
from lapa.config.models import tabletop_model, tabletop_paper_model
from lapa.config.presets import tabletop
from lapa.config.run import RunConfig
from lapa.envs.statistics import wilson_interval
from lapa.stages.results import StageResult

MIN_PERPLEXITY = 2.0
MIN_JOINT_PERPLEXITY = 2.0
"""A run has collapsed when, at its last validation, fewer than two codes, or than two latent actions, are in use."""

STEPS = 600
BATCH = 32
VIDEOS = 300
PROBE_EPISODES = 60
PUBLISHED_RATE = 1e-4
TABLETOP_RATE = 1e-3


class CollapseRow(BaseModel):
    """One recipe over all of its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    runs: int
    collapsed: int
    """Runs below either line at their last validation."""
    perplexity: float
    """Median over the runs, as are the others; of 8 codes."""
    joint_perplexity: float
    """Of whole latent actions."""
    dead_share: float
    """Of the codebook's entries."""
    quantization_error: float
    """Squared distance of latents to their codes, relative to the latents' variance."""
    r2: float | None
    """Of the robot's true motion, by a linear probe from the codes; runs this short explain little."""


def collapse_arms() -> dict[str, dict[str, Any]]:
    """Recipe -> its settings."""
    published = _shallow(tabletop_paper_model())
    assert isinstance(published.architecture, TransformerArchitecture)
    assert isinstance(published.quantizer, NsvqConfig)
    repaired = published.model_copy(
        update={
            "architecture": published.architecture.model_copy(update={"released_layout": False}),
            "quantizer": NsvqConfig(width=published.quantizer.width),
        }
    )
    return {
        "lapa-paper": _settings(published, PUBLISHED_RATE),
        "lapa": _settings(repaired, PUBLISHED_RATE),
        "tabletop": _settings(tabletop_model(), TABLETOP_RATE),
    }


def collapse_runs(seeds: int, *, work_url: str = "work/bench") -> list[RunConfig]:
    """Every recipe with every seed; of each run, the stages `ingest` and `laq` are wanted."""
    return [
        changed(_base(work_url), {"name": f"collapse.{arm}.{seed}", "seed": seed, **settings})
        for seed in range(seeds)
        for arm, settings in collapse_arms().items()
    ]


def collapse_table(results: Sequence[StageResult]) -> list[CollapseRow]:
    """A row per recipe from the runs' `laq` stages."""
    arms: dict[str, list[Mapping[str, float]]] = {}
    for result in results:
        arms.setdefault(result.name.split(".")[1], []).append(result.metrics)
    return [_row(arm, arms[arm]) for arm in collapse_arms() if arm in arms]


def has_collapsed(metrics: Mapping[str, float]) -> bool:
    """Judged from the metrics of a run's last validation."""
    return metrics["perplexity"] < MIN_PERPLEXITY or metrics["joint_perplexity"] < MIN_JOINT_PERPLEXITY


def collapse_markdown(rows: Sequence[CollapseRow]) -> str:
    """The table for `docs/results/collapse.md`; beside collapsed runs, Wilson's 95 % interval of their share."""
    lines = [
        "| recipe | collapsed runs (95 % interval) | perplexity of 8 | latent actions in use | dead codes | "
        "quantization error | R2 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        r2 = "" if row.r2 is None else f"{row.r2:.2f}"
        share = wilson_interval(row.collapsed, row.runs)
        lines.append(
            f"| {row.arm} | {row.collapsed} of {row.runs} ({share.low:.0%} to {share.high:.0%}) | "
            f"{row.perplexity:.2f} | {row.joint_perplexity:.1f} | {row.dead_share:.0%} | "
            f"{row.quantization_error:.3g} | {r2} |"
        )
    return "\n".join(lines) + "\n"


def _row(arm: str, runs: Sequence[Mapping[str, float]]) -> CollapseRow:
    def middle(name: str) -> float:
        return median(metrics[name] for metrics in runs)

    probed = [metrics["probe_r2/additive"] for metrics in runs if "probe_r2/additive" in metrics]
    return CollapseRow(
        arm=arm,
        runs=len(runs),
        collapsed=sum(has_collapsed(metrics) for metrics in runs),
        perplexity=middle("perplexity"),
        joint_perplexity=middle("joint_perplexity"),
        dead_share=middle("dead_share"),
        quantization_error=middle("quantization_error"),
        r2=median(probed) if probed else None,
    )


def _base(work_url: str) -> RunConfig:
    return changed(
        tabletop(),
        {
            "work_url": work_url,
            "baselines": {},
            "tracking.enabled": False,
            "videos.source.episodes": VIDEOS,
            "robot.source.episodes": PROBE_EPISODES,
            # Never opens: it is here for its probe.
            "laq.gate": {"min_r2": 1.0},
            # Neither the alarm's repair nor its stop: what the recipe itself does is to be seen.
            "laq.health.on_collapse": "warn",
            "laq.fit.steps": STEPS,
            "laq.fit.batch_size": BATCH,
            "laq.fit.validate_every": STEPS // 4,
            "laq.fit.checkpoint_every": STEPS,
        },
    )


def _settings(model: LatentActionConfig, rate: float) -> dict[str, Any]:
    optimizer = {"learning_rate": rate, "clip_norm": 0.5}
    return {"laq.model": model.model_dump(mode="json"), "laq.fit.optimizer": optimizer}


def _shallow(model: LatentActionConfig) -> LatentActionConfig:
    """A layer of each kind, so that a run takes seconds."""
    depths = {"spatial_depth": 1, "temporal_depth": 1, "decoder_depth": 1}
    return model.model_copy(update={"architecture": model.architecture.model_copy(update=depths)})
