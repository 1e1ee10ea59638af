"""What to change in a run: settings by name, with the values they have now."""

from collections.abc import Sequence
from typing import assert_never

from pydantic import BaseModel, ConfigDict

from lapa.config.latent_action import FsqConfig, NsvqConfig, PublishedRevivalConfig, RevivalConfig, VqEmaConfig
from lapa.config.run import RunConfig
from lapa.config.stages import LaqConfig

AWAKE_BY = 1000
"""Steps by which a codebook that starts from data is in use: the tabletop's has begun to be by step 375. One that was
trained for fewer may only be untrained."""


class Change(BaseModel):
    """One thing to try. Without `sets` it is something to look at or to get, not a setting."""

    model_config = ConfigDict(frozen=True)

    sets: tuple[str, ...] = ()
    """`key=value`, in the order in which `--set` takes them."""
    now: str = ""
    """What the run has in their place."""
    why: str
    is_alternative: bool = False
    """For when the others were not enough."""


def against_collapse(config: LaqConfig, *, fell: bool, hardly_moves: bool) -> tuple[Change, ...]:
    """What brings a collapsed codebook to life, likeliest cause first; only what the run does not do yet."""
    changes = [_wider_window(config)] if hardly_moves else []
    quantizer = config.model.quantizer
    starts_at_random = isinstance(quantizer, NsvqConfig) and quantizer.initialization == "normal"
    is_cared_for = not starts_at_random and isinstance(getattr(quantizer, "revival", None), RevivalConfig)
    may_be_untrained = is_cared_for and config.fit.steps < AWAKE_BY and not (fell or hardly_moves)
    if may_be_untrained:
        changes.append(_long_enough(config))
    if starts_at_random:
        changes.append(Change(
            sets=("laq.model.quantizer.initialization=data",), now="normal",
            why="Entries drawn from N(0, 1) lie far from the latents, so one entry is nearest to all of them. "
            "Starting from latents of the first batch gives every entry work.",
        ))  # fmt: skip
    if isinstance(quantizer, NsvqConfig | VqEmaConfig):
        revival = _revival(quantizer.revival, config.fit.steps)
        changes.append(revival.model_copy(update={"is_alternative": may_be_untrained}))
    if config.health.on_collapse != "repair":
        changes.append(Change(
            sets=("laq.health.on_collapse=repair",), now=config.health.on_collapse,
            why="A collapse is then mended while it trains, or stops the run instead of spending the rest of it.",
        ))  # fmt: skip
    if fell:
        changes.append(slower(config))
    if not hardly_moves:
        changes.append(_wider_window(config).model_copy(update={"is_alternative": True}))
    if not isinstance(quantizer, FsqConfig):
        changes.append(Change(
            sets=("laq.model.quantizer.kind=fsq",), now=quantizer.kind,
            why="Finite scalar quantization has no codebook that could collapse.", is_alternative=True,
        ))  # fmt: skip
    return tuple(changes)


def against_dead_codes(config: LaqConfig) -> Change:
    """Codes that nothing uses."""
    quantizer = config.model.quantizer
    if isinstance(quantizer, NsvqConfig | VqEmaConfig):
        return _revival(quantizer.revival, config.fit.steps)
    return Change(why="Some combinations of levels are never used: fewer laq.model.quantizer.levels may do.")


def _revival(revival: RevivalConfig | PublishedRevivalConfig | None, steps: int) -> Change:
    why = "Unused codes are restarted from latents, for the whole run, before the used ones drift away with everything."
    every = min(100, max(10, steps // 20))
    match revival:
        case None:
            return Change(sets=(f"laq.model.quantizer.revival.every={every}",), now="no revival", why=why)
        case PublishedRevivalConfig():
            sets = ("laq.model.quantizer.revival=null", f"laq.model.quantizer.revival.every={every}")
            return Change(sets=sets, now="the published schedule, which ends at step 4500", why=why)
        case RevivalConfig():
            return Change(
                sets=(f"laq.model.quantizer.revival.every={max(1, revival.every // 4)}",), now=str(revival.every),
                why="Unused codes are looked for, but too seldom to keep them in use.",
            )  # fmt: skip
        case _:
            assert_never(revival)


def _long_enough(config: LaqConfig) -> Change:
    return Change(
        sets=(f"laq.fit.steps={2 * AWAKE_BY}",), now=str(config.fit.steps),
        why="So short a training says little: a codebook begins with a few names in use, and others come with the "
        "first few hundred steps.",
    )  # fmt: skip


def _wider_window(config: LaqConfig) -> Change:
    return Change(
        sets=(f"laq.window_seconds={2 * config.window_seconds:g}",),
        now=f"{config.window_seconds:g} s",
        why="When the two frames of a pair hardly differ there is nothing to name. Look at the reconstructions: the "
        "paper uses 0.6 s for robots and 2.4 s for human video.",
    )


def slower(config: LaqConfig) -> Change:
    rate = config.fit.optimizer.learning_rate
    return Change(
        sets=(f"laq.fit.optimizer.learning_rate={rate / 2:g}",), now=f"{rate:g}",
        why="The codes were in use and were lost again: smaller steps keep them where the latents are.",
    )  # fmt: skip


def longer(run: RunConfig, stage: str, why: str, *, factor: int = 2) -> Change:
    """Train a stage longer."""
    config = getattr(run, stage)
    steps = config.fit.steps
    return Change(sets=(f"{stage}.fit.steps={factor * steps}",), now=str(steps), why=why)


def command_with(command: str, changes: Sequence[Change], *, name: str) -> str:
    """The run again under another name, with the settings to try first."""
    settings = [item for change in changes if not change.is_alternative for item in change.sets]
    return " \\\n  ".join([command, *(f"--set {_quoted(item)}" for item in [f"name={name}", *settings])])


def _quoted(setting: str) -> str:
    return f"'{setting}'" if any(character in setting for character in " {}[]") else setting
