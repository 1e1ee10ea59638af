"""Closed-loop success and held-out error: rows and tables of the page's first section."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lapa.envs.statistics import wilson_interval
from lapa.report.outcomes import Pairing, compare_arms
from lapa.report.summary import ArmSummary, Outcome, RunSummary


@dataclass(frozen=True, kw_only=True)
class IntervalRow:
    """One line of an interval plot; values in [0, 1]."""

    label: str
    kind: str
    """Shape of its mark: `policy`, `baseline` or `oracle`."""
    rate: float
    low: float
    high: float
    count: str
    """What it is an average of: `180 episodes`."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RateTable:
    """Success per arm, one row per group of episodes."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[IntervalRow | None]]]


@dataclass(frozen=True, kw_only=True)
class ErrorTable:
    """Held-out action error: one row per action dimension, one column per arm."""

    columns: list[str]
    rows: list[tuple[str, list[float], float]]
    """Dimension, error per arm, error of always answering the mean action."""
    ratios: list[float]


def success_rows(summary: RunSummary) -> list[IntervalRow]:
    """The policy, its baselines best first, then the oracle; those that were evaluated in closed loop."""
    rows = [row for arm in summary.arms if (row := arm_row(arm)) is not None]
    rows.sort(key=lambda row: (row.kind != "policy", -row.rate))
    evaluated = [stage.metrics for arm in summary.arms if (stage := arm.stage("evaluate")) is not None]
    if driven := [metrics for metrics in evaluated if "oracle_success_rate" in metrics]:
        rows.append(_row(driven[0], "oracle_", "scripted oracle", "oracle", "knows the true state"))
    return rows


def arm_row(arm: ArmSummary) -> IntervalRow | None:
    stage = arm.stage("evaluate")
    if stage is None or "success_rate" not in stage.metrics:
        return None
    if arm.is_baseline:
        return _row(stage.metrics, "", arm.name, "baseline", f"baseline: {', '.join(arm.differs)}")
    return _row(stage.metrics, "", arm.name, "policy", "this run")


def success_tables(arms: Sequence[ArmSummary], confidence: float) -> list[RateTable]:
    """By split (seen, unseen …) and by kind of task, where there are several."""
    evaluated = [arm for arm in arms if arm.outcomes]
    tables = (
        _table("By split", evaluated, lambda outcome: outcome.split, confidence),
        _table("By kind of task", evaluated, lambda outcome: outcome.kind, confidence),
    )
    return [table for table in tables if len(table.rows) > 1]


def pairings(summary: RunSummary) -> list[Pairing]:
    """The run against each of its baselines, where both were evaluated in closed loop."""
    if not summary.main.outcomes:
        return []
    return [compare_arms(summary.main, arm) for arm in summary.arms[1:] if arm.outcomes]


def held_out(summary: RunSummary) -> ErrorTable | None:
    """Error on robot episodes that finetuning never saw."""
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


def _table(title: str, arms: Sequence[ArmSummary], group: Callable[[Outcome], str], confidence: float) -> RateTable:
    names = list(dict.fromkeys(group(outcome) for arm in arms for outcome in arm.outcomes))
    return RateTable(
        title=title,
        columns=[arm.name for arm in arms],
        rows=[(name, [_cell(arm, name, group, confidence) for arm in arms]) for name in names if name],
    )


def _cell(arm: ArmSummary, name: str, group: Callable[[Outcome], str], confidence: float) -> IntervalRow | None:
    episodes = [outcome for outcome in arm.outcomes if group(outcome) == name]
    if not episodes:
        return None
    solved = sum(outcome.success for outcome in episodes)
    interval = wilson_interval(solved, len(episodes), confidence)
    return IntervalRow(
        label=arm.name, kind="baseline" if arm.is_baseline else "policy", rate=solved / len(episodes),
        low=interval.low, high=interval.high, count=f"{len(episodes)} episodes",
    )  # fmt: skip


def _row(metrics: dict[str, float], prefix: str, label: str, kind: str, note: str) -> IntervalRow:
    rate = metrics[f"{prefix}success_rate"]
    return IntervalRow(
        label=label,
        kind=kind,
        rate=rate,
        low=metrics.get(f"{prefix}success_low", rate),
        high=metrics.get(f"{prefix}success_high", rate),
        count=f"{int(metrics.get(f'{prefix}episodes', 0))} episodes",
        note=note,
    )
