"""Closed-loop episodes one by one, and two policies on the same initial states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapa import files
from lapa.config.base import result_settings
from lapa.envs.statistics import PairedComparison, compare_paired
from lapa.report.summary import ArmSummary, Outcome

EPISODES_FILE = "episodes.json"


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two policies on the same initial states, or why they cannot be compared so."""

    first: str
    second: str
    comparison: PairedComparison | None
    why_not: str = ""


def read_outcomes(folder: str) -> tuple[Outcome, ...]:
    """Every episode of an `evaluate` stage; none where it drove no simulator."""
    url = files.join(folder, EPISODES_FILE)
    if not files.exists(url):
        return ()
    rows: list[dict[str, Any]] = files.read_json(url).get("policy", {}).get("outcomes", [])
    return tuple(
        Outcome(
            start=str(row["seed"]),
            kind=row.get("kind", ""),
            split=row.get("split") or "",
            instruction=row.get("instruction", ""),
            success=row["success"],
            timesteps=int(row.get("steps", 0)),
        )
        for row in rows
    )


def compare_arms(first: ArmSummary, second: ArmSummary) -> Pairing:
    """McNemar's test where both evaluations began in the same states of the same world."""
    why_not = _why_not(first, second)
    if why_not:
        return Pairing(first=first.name, second=second.name, comparison=None, why_not=why_not)
    theirs = {_key(outcome): outcome.success for outcome in second.outcomes}
    comparison = compare_paired(
        np.array([outcome.success for outcome in first.outcomes]),
        np.array([theirs[_key(outcome)] for outcome in first.outcomes]),
    )
    return Pairing(first=first.name, second=second.name, comparison=comparison)


def _why_not(first: ArmSummary, second: ArmSummary) -> str:
    for arm in (first, second):
        if not arm.outcomes:
            return f"{arm.name} has no closed-loop episodes"
    if _world(first) != _world(second):
        return "evaluated in other worlds, on other tasks or with another limit of timesteps"
    if sorted(map(_key, first.outcomes)) != sorted(map(_key, second.outcomes)):
        return f"other initial states ({_states(first.outcomes)} against {_states(second.outcomes)})"
    return ""


def _world(arm: ArmSummary) -> dict[str, Any]:
    """What of the evaluation decides where an episode begins and ends, beside its seed."""
    simulator = arm.config.evaluate and arm.config.evaluate.simulator
    if simulator is None:
        return {}
    return {key: value for key, value in result_settings(simulator).items() if key not in ("seed", "episodes")}


def _key(outcome: Outcome) -> tuple[str, str]:
    return outcome.start, outcome.instruction


def _states(outcomes: Sequence[Outcome]) -> str:
    return f"{len(outcomes)} from seed {outcomes[0].start}"
