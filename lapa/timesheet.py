"""What processes spend their time on, where the work of a stage is done by processes of its own.

Whoever wants to know opens `kept(folder)`. From then on this process, and those of every `worker_pool` that is opened
inside, note their jobs in a file each. A job consists of parts, which nest; time belongs to the innermost one. While
nobody asks, nothing is measured.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")

SPANS = 20_000
"""Of one job, that a trace shows; of what follows, time is counted all the same."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The outermost part: what a process did in one go."""

    name: str
    label: str
    process: int
    start: float
    """Of the machine's steady clock, which all its processes share; in seconds."""
    end: float
    seconds: dict[str, float]
    """By part; what the job did beside its parts is under its own name."""
    cpu_seconds: dict[str, float]
    spans: list[tuple[str, float, float]]
    """Parts with start and end, in the order of their ends, of jobs that are to be traced."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Worker processes, from the start of the first to the end of the last."""

    workers: int
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Timesheets:
    """Of all processes."""

    jobs: list[Job]
    pools: list[Pool]

    def waited(self, *, parent: int) -> float:
        """Seconds that the workers of pools had nothing to do, or were only starting, all workers together."""
        there = sum(pool.workers * (pool.end - pool.start) for pool in self.pools)
        worked = sum(job.end - job.start for job in self.jobs if job.process != parent)
        return max(there - worked, 0.0)


@dataclass
class _Open:
    """A part that has begun; what parts inside it took is not its own."""

    name: str
    start: float
    cpu_start: float
    inside: float = 0.0
    cpu_inside: float = 0.0


@dataclass
class _Clerk:
    """Keeps the timesheet of this process."""

    folder: Path
    traced: int
    """First jobs of each name whose parts are kept one by one."""
    jobs: Counter[str] = field(default_factory=Counter)
    stack: list[_Open] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list)

    def begin(self, name: str) -> None:
        self.stack.append(_Open(name, time.perf_counter(), time.process_time()))

    def end(self, label: str) -> None:
        part, now, cpu = self.stack.pop(), time.perf_counter(), time.process_time()
        whole, cpu_whole = now - part.start, cpu - part.cpu_start
        self.seconds[part.name] = self.seconds.get(part.name, 0.0) + whole - part.inside
        self.cpu_seconds[part.name] = self.cpu_seconds.get(part.name, 0.0) + cpu_whole - part.cpu_inside
        if self.stack:
            self.stack[-1].inside += whole
            self.stack[-1].cpu_inside += cpu_whole
            if self.jobs[self.stack[0].name] < self.traced and len(self.spans) < SPANS:
                self.spans.append((part.name, part.start, now))
            return
        self._hand_in(part, label, now)

    def _hand_in(self, part: _Open, label: str, now: float) -> None:
        self.jobs[part.name] += 1
        job = Job(
            name=part.name,
            label=label,
            process=os.getpid(),
            start=part.start,
            end=now,
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            spans=self.spans,
        )
        self.seconds, self.cpu_seconds, self.spans = {}, {}, []
        self.note({"job": asdict(job)})

    def note(self, what: dict[str, Any]) -> None:
        with (self.folder / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(what) + "\n")


_clerk: _Clerk | None = None


@contextmanager
def kept(folder: Path, *, traced: int) -> Iterator[None]:
    """Inside, jobs of this process and of its pools are noted in `folder`; parts of the first `traced` of each name
    one by one."""
    begin_here((str(folder), traced))
    try:
        yield
    finally:
        begin_here(None)


def begin_here(orders: tuple[str, int] | None) -> None:
    """Do in this process what `orders` of another say; None: nothing is noted."""
    global _clerk
    _clerk = _Clerk(Path(orders[0]), orders[1]) if orders else None


def orders() -> tuple[str, int] | None:
    """What a worker process is to be told."""
    return (str(_clerk.folder), _clerk.traced) if _clerk else None


@contextmanager
def part(name: str, label: str = "") -> Iterator[None]:
    """Inside, time belongs to this part. The outermost one is a job, which a trace shows under its `label`."""
    clerk = _clerk
    if clerk is None:
        yield
        return
    clerk.begin(name)
    try:
        yield
    finally:
        clerk.end(label or name)


def each(name: str, items: Iterable[Item]) -> Iterator[Item]:
    """The same items; the time of making each of them belongs to this part."""
    return iter(items) if _clerk is None else _timed(name, iter(items))


def _timed(name: str, items: Iterator[Item]) -> Iterator[Item]:
    while True:
        with part(name):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


@contextmanager
def pool(workers: int) -> Iterator[None]:
    """Inside, so many worker processes are there to do something."""
    start = time.perf_counter()
    try:
        yield
    finally:
        if _clerk is not None:
            _clerk.note({"pool": asdict(Pool(workers=workers, start=start, end=time.perf_counter()))})


def handed_in(folder: Path) -> Timesheets:
    """Jobs of all processes in the order of their beginnings, and pools."""
    notes = [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    jobs = [Job(**note["job"]) for note in notes if "job" in note]
    pools = [Pool(**note["pool"]) for note in notes if "pool" in note]
    return Timesheets(jobs=sorted(jobs, key=lambda job: job.start), pools=pools)
