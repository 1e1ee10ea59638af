"""Whether the codes are in use, since when they are not, and what to do about it."""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lapa.config.run import RunConfig
from lapa.config.stages import STILL, HealthConfig
from lapa.report.changes import Change, against_collapse, against_dead_codes, longer
from lapa.report.summary import Series, StageSummary

WEAK_SHARE = 0.4
"""A codebook whose perplexity is below this share of its size is weak."""
MAX_DEAD_SHARE = 0.25
REPAIRED = "train/repaired_codes"
"""Logged by `LaqTask` at the first report after it restarted a collapsed codebook."""
POSITION = re.compile(r"validation/perplexity/position-(\d+)")

Verdict = Literal["healthy", "weak", "collapsed", "unknown", "no codes"]


class CodeHealth(BaseModel):
    """The verdict on a trained codebook."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    headline: str
    since: int | None = None
    """Step of the first validation of a collapse that lasts."""
    repairs: int = 0
    """How often a collapse was mended in training."""
    why: str = ""
    """What follows from it."""
    changes: tuple[Change, ...] = ()


def validation_value(stage: StageSummary, name: str) -> float | None:
    """A metric of the last validation, as `LaqTask` names it: from the result, else from the log."""
    if name in stage.metrics:
        return stage.metrics[name]
    points = stage.history.get(f"validation/{name}")
    return points[-1][1] if points else None


def perplexity_per_position(stage: StageSummary) -> dict[int, Series]:
    """Position of a code within the latent action -> its perplexity over the validations."""
    found = {name: POSITION.fullmatch(name) for name in stage.history}
    return {int(match.group(1)): stage.history[name] for name, match in sorted(found.items()) if match}


def judge(stage: StageSummary | None, run: RunConfig) -> CodeHealth:
    """Read a `laq` stage's numbers. Without them the verdict is `unknown`."""
    size = run.laq.model.codebook_size
    if not size or run.laq.labeller == "inverse-dynamics":
        return CodeHealth(verdict="no codes", headline="This run names no changes with codes: there is no codebook.")
    perplexity = validation_value(stage, "perplexity") if stage is not None else None
    if stage is None or perplexity is None:
        return CodeHealth(verdict="unknown", headline="The latent-action model has not been trained and validated yet.")
    joint = validation_value(stage, "joint_perplexity")
    if _is_collapsed({"perplexity": perplexity, "joint_perplexity": joint}, run.laq.health):
        return _collapsed(stage, run, perplexity, joint)
    return _alive(stage, run, perplexity)


def collapsed_since(stage: StageSummary, health: HealthConfig) -> tuple[int | None, bool]:
    """Step from which every validation was below a line, and whether an earlier one was above both."""
    seen: dict[int, dict[str, float | None]] = {}
    for name in ("perplexity", "joint_perplexity"):
        for step, value in stage.history.get(f"validation/{name}", []):
            seen.setdefault(step, {})[name] = value
    since = None
    for step in sorted(seen, reverse=True):
        if not _is_collapsed(seen[step], health):
            return since, True
        since = step
    return since, False


def _is_collapsed(values: Mapping[str, float | None], health: HealthConfig) -> bool:
    """As the alarm in training sees it; a perplexity of 1 is a collapse wherever the lines are."""
    return health.is_collapsed(values) or any(value is not None and value <= 1.0 for value in values.values())


def _alive(stage: StageSummary, run: RunConfig, perplexity: float) -> CodeHealth:
    """In use at the end of training; what had to be repaired on the way is told first."""
    used = _used(stage, perplexity, run.laq.model.codebook_size)
    repairs = [step for step, codes in stage.history.get(REPAIRED, []) if codes]
    past, why = "", ""
    changes: tuple[Change, ...] = ()
    if repairs:
        times = "once" if len(repairs) == 1 else f"{len(repairs)} times"
        past = f"The codebook had collapsed and was restarted {times} (by step {repairs[-1]:,}). "
        why = (
            "Restarting mends the codes, not the cause: the steps before were lost, and longer training may fall again."
        )
        changes = tuple(item for item in _against_collapse(stage, run, fell=False) if not item.is_alternative)
    weaknesses = _weaknesses(stage, run, perplexity)
    if not weaknesses:
        return CodeHealth(
            verdict="healthy", headline=f"{past}The codebook is healthy: {used}, and every position is in use.",
            repairs=len(repairs), why=why, changes=changes,
        )  # fmt: skip
    # What cures the collapse may cure the weakness, which it left behind.
    later = {change.why: change.model_copy(update={"is_alternative": bool(changes)}) for _, change in weaknesses}
    return CodeHealth(
        verdict="weak",
        headline=f"{past}The codebook is in use but weak: {used}; {'; '.join(what for what, _ in weaknesses)}.",
        repairs=len(repairs),
        why=why,
        changes=(*changes, *later.values()),
    )


def _against_collapse(stage: StageSummary, run: RunConfig, *, fell: bool) -> tuple[Change, ...]:
    copied = validation_value(stage, "copy_error")
    return against_collapse(run.laq, fell=fell, hardly_moves=copied is not None and copied < STILL)


def _collapsed(stage: StageSummary, run: RunConfig, perplexity: float, joint: float | None) -> CodeHealth:
    since, fell = collapsed_since(stage, run.laq.health)
    best = max((value for _, value in stage.history.get("validation/perplexity", [])), default=perplexity)
    actions = f"{perplexity if joint is None else joint:.1f}"
    possible = run.laq.model.codebook_size**run.laq.model.codes_per_pair
    when = f" at step {since:,}" if since is not None and fell else ""
    history = f", after {best:.1f} codes had been in use" if fell else ""
    if since is not None and not fell:
        history = f", from the first validation on (step {since:,})"
    return CodeHealth(
        verdict="collapsed",
        headline=f"The codebook collapsed{when}: {actions} of {possible:,} latent actions in use{history}.",
        since=since,
        why="Every change between two frames gets the same name, whatever moved. Labels made from this model carry no "
        "information, and pretraining on them teaches the policy nothing about acting.",
        changes=_against_collapse(stage, run, fell=fell),
    )


def _used(stage: StageSummary, perplexity: float, size: int) -> str:
    """Positions one by one: each may use its own few codes, and all together then look like many."""
    positions = [points[-1][1] for points in perplexity_per_position(stage).values() if points]
    if not positions:
        return f"perplexity {perplexity:.2f} of {size} codes"
    listed = " and ".join(f"{value:.1f}" for value in positions)
    return f"perplexity {listed} of {size} codes at its {len(positions)} position{'s' * (len(positions) > 1)}"


def _weaknesses(stage: StageSummary, run: RunConfig, perplexity: float) -> list[tuple[str, Change]]:
    found = []
    if perplexity < WEAK_SHARE * run.laq.model.codebook_size:
        why = (
            "Look at the code atlas first: few codes are enough for few kinds of motion. If motions are missing, train"
        )
        found.append(("few codes share the work", longer(run, "laq", f"{why} longer.")))
    positions = perplexity_per_position(stage)
    idle = [place for place, points in positions.items() if points[-1][1] < run.laq.health.min_perplexity]
    if idle:
        listed, count = ", ".join(map(str, sorted(idle))), run.laq.model.codes_per_pair
        found.append((
            f"position {listed} says almost nothing",
            Change(
                sets=(f"laq.model.codes_per_pair={max(1, count - len(idle))}",), now=str(count),
                why="Fewer codes may do, and codes that are all in use are easier to learn in pretraining.",
            ),
        ))  # fmt: skip
    dead = validation_value(stage, "dead_share")
    if dead is not None and dead > MAX_DEAD_SHARE:
        found.append((f"{dead:.0%} of the codes are dead", against_dead_codes(run.laq)))
    ratio = validation_value(stage, "relative_error")
    if ratio is not None and ratio >= 1.0:
        why = "The codes do not yet help to predict the future frame. Train longer; or widen laq.window_seconds."
        found.append((
            f"decoding is no better than copying the current frame (error ratio {ratio:.2f})",
            longer(run, "laq", why),
        ))  # fmt: skip
    return found
