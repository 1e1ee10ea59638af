"""Stage after stage on this machine, each a process of its own with its own log."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lapa import files
from lapa.config.data import ExistingDataset, parts_of
from lapa.config.load import dump_run, load_run
from lapa.config.run import RunConfig
from lapa.errors import RESTART_EXIT_CODE, ConfigError
from lapa.process import own_program
from lapa.stages.plan import (
    NotMadeYet,
    PlannedStage,
    dataset_url,
    datasets_of,
    finished,
    machine_folder,
    run_file,
    stage_folder,
    unchanged,
)
from lapa.stages.results import StageResult
from lapactl.alone import held_alone
from lapactl.errors import Interrupted, StageFailed
from lapactl.failures import explain_failure
from lapactl.output import Output, duration
from lapactl.process import run_process
from lapactl.progress import StageDisplay, open_display
from lapactl.selection import Selection

TRAINING_STAGES = ("laq", "label", "pretrain", "finetune")
"""Stages that share their work over the ranks of a torchrun launch."""
WRITE_CHECKPOINTS = ("laq", "pretrain", "finetune")
MAX_STARTS = 20
"""A stage that asks for a restart more often than this is stuck."""


class StageOutcome(NamedTuple):
    """One planned stage and what it left."""

    planned: PlannedStage
    result: StageResult
    was_skipped: bool


def command_of(run: RunConfig, planned: PlannedStage, *, nproc: int, file: Path | None = None) -> list[str]:
    """What runs a stage; `file` is where `prepare` wrote the run, or would write it now."""
    arguments = ["lapa", planned.stage, str(file or _run_file(run, planned))]
    if nproc > 1 and planned.stage in TRAINING_STAGES:
        arguments = ["lapa.launch", "--standalone", f"--nproc-per-node={nproc}", "-m", *arguments]
    return own_program(*arguments)


def run_chain(selection: Selection, *, nproc: int, force: Sequence[str], out: Output) -> list[StageOutcome]:
    """Run what is not made yet. Raises StageFailed at the first stage that fails, Interrupted when stopped."""
    outcomes: list[StageOutcome] = []
    for item in selection.planned:
        # Not all of them first: where a forced stage's folder is depends on what the ones before it make.
        if item.stage in force:
            discard(item)
        outcomes.append(_make(selection.run, item, nproc=nproc, out=out))
    return outcomes


def discard(planned: PlannedStage) -> None:
    """Remove what a stage made, finished or not, its checkpoints too, so that it is made again from nothing."""
    try:
        files.remove(stage_folder(planned.run, planned.stage))
    except NotMadeYet:  # it has no place yet; making it says which stage comes first
        return
    if planned.stage == "ingest":
        for config in datasets_of(planned.run).values():
            made = [*parts_of(config).values(), config]
            for dataset in made:
                if not isinstance(dataset, ExistingDataset):
                    files.remove(dataset_url(planned.run, dataset))


def log_file(run: RunConfig, planned: PlannedStage) -> Path:
    """Where the stage's own words go."""
    return machine_folder(run) / "logs" / run.name / f"{_file_stem(run, planned)}.log"


def prepare(run: RunConfig, planned: PlannedStage, log: Path) -> Path:
    """Write the run's file, say where, and put the log of an earlier start aside."""
    file = _run_file(run, planned)
    # A run's own file keeps its baselines, so that the file alone makes all of it again.
    written = run if planned.name == run.name else planned.run
    files.write_bytes(str(file), dump_run(written).encode())
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    return file


def _make(run: RunConfig, planned: PlannedStage, *, nproc: int, out: Output) -> StageOutcome:
    label = planned.stage if planned.name == run.name else f"{planned.stage} ({planned.name})"
    if (done := unchanged(planned.run, planned.stage)) is not None:
        out.say(f"{label}: unchanged, skipped")
        return StageOutcome(planned, done, True)
    before = finished(planned.run, planned.stage)
    log = log_file(run, planned)
    with _one_writer(planned, out) as locks, open_display(out, label) as display:
        _start(run, planned, label, log, nproc=nproc, display=display, keep_open=locks)
    result = finished(planned.run, planned.stage)
    if result is None:
        raise StageFailed(f"stage {label} ended without a result. Its log is {log}", StageFailed.exit_code)
    if result == before:
        out.say(f"{label}: looked again, unchanged")
        return StageOutcome(planned, result, True)
    out.say(f"{label}: done in {duration(result.seconds)}")
    for message in result.messages:
        out.say(f"  {message}")
    return StageOutcome(planned, result, False)


@contextmanager
def _one_writer(planned: PlannedStage, out: Output) -> Iterator[list[int]]:
    """Locks that the stage's process is to keep: two that train in one folder would remove each other's checkpoints.

    Other stages share their work by claims.
    """
    if planned.stage not in WRITE_CHECKPOINTS:
        yield []
        return
    folder = stage_folder(planned.run, planned.stage)
    busy = (
        f"another program trains in {folder}, or what is left of one that was killed saves there. Wait for its end, or "
        "end it: the same command continues what it saved"
    )
    file = machine_folder(planned.run) / "locks" / files.name_of(folder)
    with held_alone(file, others=f"what still trains in {folder}", busy=busy, tell=out.say) as lock:
        yield [lock]


def _start(
    run: RunConfig,
    planned: PlannedStage,
    label: str,
    log: Path,
    *,
    nproc: int,
    display: StageDisplay,
    keep_open: Sequence[int],
) -> None:
    """Run a stage's process, again whenever it asks for that."""
    # Decided once: another command may write the run's own file before this stage asks to be started again.
    command = command_of(run, planned, nproc=nproc, file=prepare(run, planned, log))
    for start in range(1, MAX_STARTS + 1):
        ended = run_process(command, log=log, on_event=display.update, keep_open=keep_open)
        if ended.was_interrupted:
            raise Interrupted(f"stopped during {label}; what was saved is kept, and the same command continues there")
        if ended.exit_code != RESTART_EXIT_CODE:
            break
        display.note(f"{label}: asks to be started again ({start} of at most {MAX_STARTS} times)")
        time.sleep(1)
    if ended.exit_code != 0:
        code = ended.exit_code if ended.exit_code > 0 else StageFailed.exit_code
        raise StageFailed(failure_words(label, ended.exit_code, log), code)


def failure_words(label: str, exit_code: int, log: Path) -> str:
    """How a stage's process failed, what it said, and where all of it is."""
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    said = explain_failure(log.read_text(errors="replace") if log.exists() else "")
    return f"stage {label} failed with {how}\n{said}\nIts log is {log}"


def _run_file(run: RunConfig, planned: PlannedStage) -> Path:
    whole = run_file(run)
    if planned.name != run.name:
        return whole.with_suffix("") / f"{planned.name}.yaml"
    policy = run.evaluate.policy if run.evaluate else None
    if planned.stage != "evaluate" or policy is None or not _is_of_other_policy(whole, policy):
        return whole
    # A look aside, and no other run. In a folder of its own: a baseline may be called anything.
    return whole.with_suffix("") / "judged" / f"{files.digest(policy)[:10]}.yaml"


def _is_of_other_policy(whole: Path, policy: str) -> bool:
    """Whether the run's own file is there for another policy, or cannot be read: it is not written over then."""
    if not whole.exists():
        return False
    try:
        kept = load_run(str(whole)).evaluate
    except ConfigError:
        return True
    return kept is None or kept.policy != policy


def _file_stem(run: RunConfig, planned: PlannedStage) -> str:
    return planned.stage if planned.name == run.name else f"{planned.stage}-{planned.name}"
