"""Many chains of stages on this machine, a few stage processes at a time, what chains share made once.

Whether a stage is made, and whether two chains mean the same one, is read off its folder; so killing everything and
running the same command again goes on where it stopped.
"""

import os
import resource
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lapa.bench.costs import StageCost, add_cost, read_cost
from lapa.bench.jobs import Job
from lapa.config.stages import StageName
from lapa.errors import RESTART_EXIT_CODE, LapaError
from lapa.process import STARTER_VARIABLE
from lapa.stages.plan import PlannedStage, finished, stage_folder, static_key, unchanged
from lapactl.bench_display import BenchDisplay
from lapactl.chain import MAX_STARTS, command_of, failure_words, log_file, prepare
from lapactl.errors import Interrupted
from lapactl.process import POLL_SECONDS, StageProcess, stopping

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass
class Chain:
    """How far one job is."""

    job: Job
    keys: tuple[str, ...]
    """Static key of each stage."""
    done: int = 0
    failure: str | None = None

    @property
    def stages(self) -> tuple[StageName, ...]:
        return self.job.stages

    @property
    def stage(self) -> StageName | None:
        """What comes next; None at the end, also at a bad end."""
        return None if self.failure or self.done == len(self.keys) else self.job.stages[self.done]


@dataclass
class _Running:
    """A stage process."""

    chain: Chain
    stage: StageName
    folder: str
    log: Path
    process: StageProcess
    slot: int
    starts: int = 1
    started: float = field(default_factory=time.monotonic)

    @property
    def label(self) -> str:
        return f"{self.stage} {self.chain.job.run.name}"


class Scheduler:
    """Runs jobs to their ends, good or bad."""

    def __init__(
        self, jobs: Sequence[Job], *, slots: int, display: BenchDisplay, keep_open: Sequence[int] = ()
    ) -> None:
        self.chains = [Chain(job, tuple(static_key(job.run, stage) for stage in job.stages)) for job in jobs]
        self._free = deque(range(slots))
        self._slots = slots
        self._display = display
        self._keep_open = keep_open
        self._running: dict[str, _Running] = {}
        self._failed: dict[str, str] = {}
        self._folders: dict[tuple[int, int], str] = {}

    def run(self) -> list[Chain]:
        """Every job, done or with the words of its failure. Raises Interrupted when stopped."""
        self._advance()
        with stopping(lambda: [item.process for item in self._running.values()]) as stops:
            try:
                self._run(stops)
            finally:
                for running in self._running.values():
                    running.process.close()
        if stops:
            raise Interrupted("stopped; what was saved is kept, and the same command continues there")
        return self.chains

    def _run(self, stops: Sequence[int]) -> None:
        while True:
            if not stops:
                self._start_what_can()
            if not self._running:
                return
            time.sleep(POLL_SECONDS)
            if self._settle(is_stopping=bool(stops)):
                self._advance()
            self._display.tick()

    def _advance(self) -> None:
        """Move every chain over the stages that are made."""
        for number, chain in enumerate(self.chains):
            while (stage := chain.stage) is not None:
                try:
                    folder = self._folder(number, stage)
                    is_made = folder not in self._running and unchanged(chain.job.run, stage) is not None
                except LapaError as error:
                    chain.failure = f"{stage}: {error}"
                    break
                if not is_made:
                    chain.failure = self._failed.get(folder)
                    break
                if (cost := read_cost(folder)) is not None:
                    self._display.measured(chain.keys[chain.done], stage, cost.wall_seconds)
                chain.done += 1
        self._display.show(self.chains)

    def _folder(self, number: int, stage: StageName) -> str:
        """Of a chain's next stage; looked up once, since what decides it no longer changes."""
        chain = self.chains[number]
        place = (number, chain.done)
        if place not in self._folders:
            self._folders[place] = stage_folder(chain.job.run, stage)
        return self._folders[place]

    def _start_what_can(self) -> None:
        waiting = [(number, chain, chain.stage) for number, chain in enumerate(self.chains) if chain.stage]
        ingests = [item for item in waiting if item[2] == "ingest"]
        if ingests:  # alone: it uses all cores, and two of them may make the same dataset
            if not self._running:
                self._start(*ingests[0])
            return
        # Seed after seed, so that a study that is stopped has whole ones. Of one seed the longest chains first, so
        # that no long one is left over.
        for number, chain, stage in sorted(
            waiting, key=lambda item: (item[1].job.run.seed, item[1].done - len(item[1].keys))
        ):
            if not self._free:
                return
            if self._folder(number, stage) not in self._running:
                self._start(number, chain, stage)

    def _start(self, number: int, chain: Chain, stage: StageName) -> None:
        run, folder = chain.job.run, self._folder(number, stage)
        planned = PlannedStage(stage=stage, name=run.name, run=run)
        log = log_file(run, planned)
        prepare(run, planned, log)
        slot = self._free.popleft()
        running = _Running(chain, stage, folder, log, self._launch(planned, log, slot), slot)
        self._running[folder] = running
        self._display.started(running.label, stage)

    def _launch(self, planned: PlannedStage, log: Path, slot: int) -> StageProcess:
        label = f"{planned.stage} {planned.name}"
        environment = {STARTER_VARIABLE: str(os.getpid()), **({} if planned.stage == "ingest" else ONE_THREAD)}
        process = StageProcess(
            command_of(planned.run, planned, nproc=1),
            log=log,
            on_event=lambda event: self._display.event(label, event),
            environment=environment,
            keep_open=self._keep_open,
        )
        if planned.stage == "evaluate":
            _limit_cores(process.pid, slot, self._slots)
        return process

    def _settle(self, *, is_stopping: bool) -> bool:
        """Take note of processes that have ended; whether there were any."""
        ended = False
        for folder, running in list(self._running.items()):
            before = _cpu_seconds_of_children()
            code = running.process.poll()
            if code is None:
                continue
            running.process.close()
            seconds = time.monotonic() - running.started
            add_cost(folder, StageCost(cpu_seconds=_cpu_seconds_of_children() - before, wall_seconds=seconds))
            if code == RESTART_EXIT_CODE and not is_stopping and running.starts < MAX_STARTS:
                self._start_again(running)
                continue
            ended = True
            del self._running[folder]
            self._free.append(running.slot)
            if not is_stopping:
                self._conclude(running, code, seconds)
        return ended

    def _start_again(self, running: _Running) -> None:
        run = running.chain.job.run
        running.process = self._launch(
            PlannedStage(stage=running.stage, name=run.name, run=run), running.log, running.slot
        )
        running.starts += 1
        running.started = time.monotonic()

    def _conclude(self, running: _Running, code: int, seconds: float) -> None:
        if code == 0 and finished(running.chain.job.run, running.stage) is not None:
            self._display.ended(running.label, running.stage, seconds)
            return
        words = failure_words(running.label, code, running.log)
        self._failed[running.folder] = words
        self._display.failed(running.label, words)


def failures(chains: Sequence[Chain]) -> Mapping[str, str]:
    """Words of each failed job, by its run's name."""
    return {chain.job.run.name: chain.failure for chain in chains if chain.failure}


def _limit_cores(pid: int, slot: int, slots: int) -> None:
    """A share of the cores for a stage that takes all it may use, so that others at work keep theirs."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // slots)
        first = slot * share % len(cores)
        with suppress(ProcessLookupError):  # it failed at once
            os.sched_setaffinity(pid, cores[first : first + share])


def _cpu_seconds_of_children() -> float:
    """Of all processes that ended and were waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
