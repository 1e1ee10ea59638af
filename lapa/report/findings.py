"""What is known about a run, one sentence each: its training, its codes, its data, how far it has come."""

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lapa.analysis.probe_results import LEAKS
from lapa.config.latent_action import PixelTarget
from lapa.report.changes import Change, longer, slower
from lapa.report.health import CodeHealth, collapsed_since, validation_value
from lapa.report.summary import RunSummary, StageSummary

Level = Literal["wrong", "doubt", "unknown", "fine"]
LEVELS: tuple[Level, ...] = ("wrong", "doubt", "unknown", "fine")
"""From the one to read first."""
WEAK_MOTION = 0.2
"""R2 of true motion from the codes below which they hardly tell it."""
TRAINED = ("laq", "pretrain", "finetune")


class Finding(BaseModel):
    """One thing that is known about the run."""

    model_config = ConfigDict(frozen=True)

    level: Level
    topic: str
    headline: str
    why: str = ""
    changes: tuple[Change, ...] = ()
    section: str
    """Anchor of the page's section that shows it."""


def divergence(summary: RunSummary) -> Iterator[Finding]:
    for stage in summary.main.stages:
        points = stage.history.get("train/total", [])
        broken = next((step for step, value in points if not math.isfinite(value)), None)
        if broken is not None:
            changes = (slower(summary.config.laq),) if stage.stage == "laq" else ()
            yield Finding(
                level="wrong", topic="Training", section="curves", changes=changes,
                headline=f"Training of stage {stage.stage} diverged: the loss is not a number from step {broken:,} on.",
                why=f"Halve {stage.stage}.fit.optimizer.learning_rate, or warm it up over more steps.",
            )  # fmt: skip


def codes(health: CodeHealth) -> Iterator[Finding]:
    levels: dict[str, Level] = {"healthy": "fine", "weak": "doubt", "collapsed": "wrong", "unknown": "unknown"}
    if health.verdict in levels:
        yield Finding(
            level=levels[health.verdict], topic="Codebook", section="codes",
            headline=health.headline, why=health.why, changes=health.changes,
        )  # fmt: skip


def motion(summary: RunSummary, health: CodeHealth) -> Iterator[Finding]:
    """Do the codes tell how the robot really moved?"""
    r2 = _motion_r2(summary)
    if r2 is None or health.verdict in ("collapsed", "no codes"):
        return
    headline = f"A linear map reads {max(r2, 0):.0%} of the robot's true motion off the codes."
    if r2 >= WEAK_MOTION:
        yield Finding(level="fine", topic="Meaning", headline=headline, section="meaning")
        return
    now, leak = f"{summary.config.laq.window_seconds:g} s", _camera_share(summary)
    yield Finding(
        level="doubt", topic="Meaning", headline=headline, section="meaning",
        why=_instead_of_motion(leak),
        changes=(
            *_against_other_motion(summary, leak),
            longer(summary.config, "laq", "Codes come to mean motion late in training."),
            Change(sets=("laq.supervision.share=0.02",), now="none",
                   why="A few recorded actions pull the codes towards motion; the videos must have some."),
            Change(sets=(f"laq.window_seconds={2 * summary.config.laq.window_seconds:g}",), now=now,
                   is_alternative=True, why="Where the two frames hardly differ."),
        ),
    )  # fmt: skip


def _instead_of_motion(leak: float | None) -> str:
    if leak is not None and leak >= LEAKS:
        return f"Camera and light explain {leak:.0%} of what they say: codes are spent on what no action does."
    return "The codes stand for something other than motion: look at what changes in the code atlas."


def _against_other_motion(summary: RunSummary, leak: float | None) -> tuple[Change, ...]:
    """First where the camera and the light were found in the codes, else for when other things may have moved."""
    target = summary.config.laq.model.target
    if not isinstance(target, PixelTarget) or target.motion_mask:
        return ()
    why = (
        "Where the camera, the light or other things move: the loss looks at what still differs without them. On the "
        "tabletop with distractors this won most of the motion back."
    )
    is_alternative = leak is None or leak < LEAKS
    return (Change(sets=("laq.model.target.motion_mask=0.8",), now="0", why=why, is_alternative=is_alternative),)


def _camera_share(summary: RunSummary) -> float | None:
    """The largest share of the codes' entropy that camera and light explain on a dataset; None without an analysis."""
    reports = summary.analysis.result.probes.values() if summary.analysis.result else ()
    shares = [report.camera.code_share for report in reports if report.camera is not None]
    return max((share for share in shares if share is not None), default=None)


def _motion_r2(summary: RunSummary) -> float | None:
    if summary.analysis.result is not None:
        for role in ("robot", "videos"):
            report = summary.analysis.result.probes.get(role)
            scores = [report.score(features) for features in ("codes", "joint")] if report else []
            known = [score.mean.r2 for score in scores if score is not None and score.mean.r2 is not None]
            if known:
                return max(known)
    laq = summary.main.stage("laq")
    values = [validation_value(laq, f"probe_r2/{name}") for name in ("additive", "joint")] if laq else []
    return max((value for value in values if value is not None), default=None)


def pretraining(summary: RunSummary, health: CodeHealth) -> Iterator[Finding]:
    stage = summary.main.stage("pretrain")
    if stage is None or health.verdict == "collapsed":
        return
    accuracy = validation_value(stage, "accuracy/latent_action")
    majority = validation_value(stage, "majority/latent_action")
    if accuracy is None or majority is None:
        return
    headline = (
        f"Pretraining predicts {accuracy:.0%} of held-out latent actions; always answering the most frequent one gets "
        f"{majority:.0%}."
    )
    if accuracy > majority + 0.02:
        yield Finding(level="fine", topic="Pretraining", headline=headline, section="curves")
    else:
        yield Finding(
            level="doubt", topic="Pretraining", headline=headline, section="curves",
            why="The VLA has not learned to tell latent actions from what it sees and is told.",
            changes=(longer(summary.config, "pretrain", "Nothing was learned yet.", factor=4),),
        )  # fmt: skip


def data(summary: RunSummary) -> Iterator[Finding]:
    stage = summary.main.stage("ingest")
    for name, value in (stage.metrics if stage else {}).items():
        role, _, what = name.partition("/")
        if what == "failed_sources" and value:
            yield Finding(level="doubt", topic="Data", section="data",
                          headline=f"{value:.0f} sources of the {role} could not be read; "
                          "ingest-report.json in the dataset names them.")  # fmt: skip


def progress(summary: RunSummary) -> Iterator[Finding]:
    """Which stage comes next, where the run has not ended."""
    open_stages = [stage for stage in summary.main.stages if stage.state != "done"]
    if not open_stages:
        return
    begun = next((stage for stage in open_stages if stage.state == "unfinished"), None)
    if begun is None:
        names = ", ".join(stage.stage for stage in open_stages)
        yield Finding(level="unknown", topic="Progress", section="stages",
                      headline=f"Not finished: {names} not yet made. The same command continues it.")  # fmt: skip
        return
    yield Finding(
        level="unknown", topic="Progress", section="stages",
        headline=f"The run is under way or was stopped: {_reached(summary, begun)}. The same command continues it.",
    )  # fmt: skip


def _reached(summary: RunSummary, stage: StageSummary) -> str:
    last = max((points[-1][0] for points in stage.history.values() if points), default=0)
    if stage.stage not in TRAINED:
        return f"stage {stage.stage} has not finished"
    stopped = ""
    health = summary.config.laq.health
    if stage.stage == "laq" and health.on_collapse != "warn":
        since, _ = collapsed_since(stage, health)
        stopped = ", where the collapse alarm stops it" if since is not None else ""
    return (
        f"stage {stage.stage} has come to step {last:,} of {getattr(summary.config, stage.stage).fit.steps:,}{stopped}"
    )
