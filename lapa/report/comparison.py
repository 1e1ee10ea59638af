"""Several runs side by side, as plain data: verdicts, settings that differ, numbers, success, paired episodes."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from lapa.config.stages import STAGES
from lapa.report.outcomes import Pairing, compare_arms
from lapa.report.probes import Row, probe_rows
from lapa.report.settings import varying
from lapa.report.success import IntervalRow, arm_row
from lapa.report.summary import ArmSummary, RunSummary
from lapa.report.verdict import Verdict, reach_verdict

MAX_PAIRED = 6
"""Up to this many runs each pair is compared; more are compared with the first one."""


@dataclass(frozen=True, kw_only=True)
class StageTable:
    """The last value of each metric of one stage, one column per run."""

    stage: str
    is_shared: bool
    """Whether all runs have the very same result."""
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that is laid side by side; lists have one entry per run, in the order given."""

    names: list[str]
    """Unique: runs of one name are numbered."""
    runs: Sequence[RunSummary]
    arms: list[ArmSummary]
    """The runs without their baselines, under their unique names."""
    verdicts: list[Verdict]
    success: list[IntervalRow | None]
    settings: list[tuple[str, list[str]]]
    stages: list[StageTable]
    probes: list[Row]
    """What the probes found; empty where no run's model was probed."""
    pairings: list[Pairing]


def compare_runs(summaries: Sequence[RunSummary]) -> Comparison:
    names = _unique([summary.name for summary in summaries])
    arms = [s.main.model_copy(update={"name": name}) for s, name in zip(summaries, names, strict=True)]
    pairs = combinations(arms, 2) if len(arms) <= MAX_PAIRED else ((arms[0], arm) for arm in arms[1:])
    return Comparison(
        names=names,
        runs=summaries,
        arms=arms,
        verdicts=[reach_verdict(summary) for summary in summaries],
        success=[arm_row(arm) for arm in arms],
        settings=varying([summary.config for summary in summaries]),
        stages=[table for stage in STAGES if (table := _stage_table(arms, stage)) is not None],
        probes=probe_rows([summary.analysis.result for summary in summaries]),
        pairings=[compare_arms(first, second) for first, second in pairs],
    )


def plain(comparison: Comparison) -> dict[str, Any]:
    """The comparison for other programs: JSON's own types only."""
    return {
        "runs": [
            {
                "name": name,
                "work_url": summary.work_url,
                "verdict": verdict.main.level,
                "headline": verdict.main.headline,
                "success": None if row is None else {"rate": row.rate, "low": row.low, "high": row.high},
                "episodes": len(summary.main.outcomes),
            }
            for name, summary, verdict, row in zip(
                comparison.names, comparison.runs, comparison.verdicts, comparison.success, strict=True
            )
        ],
        "settings": {key: dict(zip(comparison.names, values, strict=True)) for key, values in comparison.settings},
        "stages": {
            table.stage: {
                "shared": table.is_shared,
                "metrics": {name: dict(zip(comparison.names, values, strict=True)) for name, values in table.rows},
            }
            for table in comparison.stages
        },
        "probes": {name: dict(zip(comparison.names, values, strict=True)) for name, values in comparison.probes},
        "paired": [_plain_pairing(pairing) for pairing in comparison.pairings],
    }


def _plain_pairing(pairing: Pairing) -> dict[str, Any]:
    found = asdict(pairing.comparison) if pairing.comparison else {"why_not": pairing.why_not}
    return {"first": pairing.first, "second": pairing.second, **found}


def _stage_table(arms: Sequence[ArmSummary], stage: str) -> StageTable | None:
    summaries = [arm.stage(stage) for arm in arms]
    metrics = [summary.metrics if summary else {} for summary in summaries]
    names = list(dict.fromkeys(name for values in metrics for name in values))
    if not names:
        return None
    prints = {summary.fingerprint if summary else "" for summary in summaries}
    return StageTable(
        stage=stage,
        is_shared=len(prints) == 1 and "" not in prints,
        rows=[(name, [_finite(values.get(name)) for values in metrics]) for name in sorted(names)],
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _unique(names: Sequence[str]) -> list[str]:
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]
