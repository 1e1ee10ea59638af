"""What `lapactl run` was asked for: which run, and which of its stages."""

from collections.abc import Sequence
from dataclasses import dataclass

from lapa.config.load import load_run
from lapa.config.run import RunConfig
from lapa.config.stages import STAGES
from lapa.errors import ConfigError
from lapa.stages.plan import PlannedStage, plan
from lapactl.run import DEFAULT_RUN


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One run, resolved, and the stages of it that are wanted, in order."""

    source: str
    """The preset or file, as the user named it."""
    is_changed: bool
    """Whether settings were given beside it, so that it alone names another run."""
    run: RunConfig
    planned: tuple[PlannedStage, ...]
    stage: str | None
    """The one stage that was asked for; None for the whole chain."""


def select(
    target: str, *, config: str | None, stage: str | None, overrides: Sequence[str], work: str | None, nproc: int
) -> Selection:
    """Read the command line. Raises ConfigError where it contradicts itself."""
    source, only = split_target(target, config=config, stage=stage)
    resolved = load_run(source, [*overrides, *([f"work_url={work}"] if work else [])])
    if nproc > 1 and resolved.engine.kind != "deepspeed":
        raise ConfigError(
            f"--nproc {nproc} needs an engine for several processes, and engine.kind is '{resolved.engine.kind}'. "
            "Add --set engine.kind=deepspeed"
        )
    planned = tuple(item for item in plan(resolved) if only in (None, item.stage))
    if not planned:
        raise ConfigError(f"the run '{resolved.name}' has no stage '{only}': it is null. Set it, or choose another")
    return Selection(source=source, is_changed=bool(overrides), run=resolved, planned=planned, stage=only)


def split_target(target: str, *, config: str | None, stage: str | None) -> tuple[str, str | None]:
    """The run's source, and the one stage that is wanted of it.

    `run tabletop --stage laq`, `run laq --config tabletop` and, for the default run, `run laq` mean the same.
    """
    if stage is not None:
        check_stages([stage])
    if target in STAGES:
        if stage not in (None, target):
            raise ConfigError(f"both '{target}' and --stage {stage} name a stage; give one of them")
        return config or DEFAULT_RUN, target
    if config is not None and target != DEFAULT_RUN:
        raise ConfigError(f"both '{target}' and --config {config} name a run; give one of them")
    return config or target, stage


def check_forced(selection: Selection, force: Sequence[str]) -> None:
    """Raises ConfigError for a stage that is to be made again and is none of the planned ones."""
    check_stages(force)
    planned = list(dict.fromkeys(item.stage for item in selection.planned))
    if absent := [name for name in force if name not in planned]:
        raise ConfigError(
            f"--force {absent[0]} names a stage that would not run; planned: {', '.join(planned)}. "
            "Force one of these, or run the stage as well"
        )


def check_stages(names: Sequence[str]) -> None:
    """Raises ConfigError for a name that is no stage."""
    if unknown := [name for name in names if name not in STAGES]:
        raise ConfigError(f"'{unknown[0]}' is not a stage; valid: {', '.join(STAGES)}")
