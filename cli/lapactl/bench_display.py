"""Progress of a study: how much is made, what is being made, how long the rest will take. Words, so on stderr."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any, Protocol

from rich.live import Live
from rich.text import Text

from lapa.config.stages import StageName
from lapactl.output import Output, duration
from lapactl.progress import describe_event

PLAIN_SECONDS = 60.0
"""Time between two lines about what is running, where nobody watches live."""
Event = Mapping[str, Any]


class ChainState(Protocol):
    """What the display reads of a chain of stages."""

    keys: tuple[str, ...]
    done: int
    failure: str | None

    @property
    def stages(self) -> Sequence[StageName]: ...


class BenchDisplay:
    """Follows a scheduler; `tick` is called several times a second."""

    def __init__(self, out: Output, *, slots: int) -> None:
        self._out = out
        self._slots = slots
        self._began = time.monotonic()
        self._running: dict[str, tuple[float, str]] = {}
        self._seconds: dict[StageName, dict[str, float]] = {}
        self._done: set[str] = set()
        self._pending: dict[str, StageName] = {}

    def show(self, chains: Sequence[ChainState]) -> None:
        """Take note of how far all chains are."""
        self._done = {key for chain in chains for key in chain.keys[: chain.done]}
        self._pending = {
            key: stage
            for chain in chains
            if not chain.failure
            for key, stage in zip(chain.keys[chain.done :], chain.stages[chain.done :], strict=True)
            if key not in self._done
        }

    def measured(self, key: str, stage: StageName, seconds: float) -> None:
        """How long a stage took, now or in an earlier run."""
        self._seconds.setdefault(stage, {})[key] = seconds

    def started(self, label: str, stage: StageName) -> None:
        self._running[label] = (time.monotonic(), "starting")

    def event(self, label: str, event: Event) -> None:
        if label in self._running:
            words = event.get("note") or f"{event.get('phase', '')} {describe_event(event)}".strip()
            self._running[label] = (self._running[label][0], words)

    def ended(self, label: str, stage: StageName, seconds: float) -> None:
        del self._running[label]
        self._out.say(f"{label}: done in {duration(seconds)}")

    def failed(self, label: str, words: str) -> None:
        del self._running[label]
        self._out.warn(words)

    def tick(self) -> None: ...

    def headline(self) -> str:
        """`12/88 stages, 4m 10s so far, about 22m 00s left`."""
        total = len(self._done) + len(self._pending)
        elapsed = time.monotonic() - self._began
        return f"{len(self._done)}/{total} stages, {duration(elapsed)} so far, {self._left()}"

    def running_lines(self) -> list[str]:
        now = time.monotonic()
        return [f"  {label} ({duration(now - began)}) {words}" for label, (began, words) in self._running.items()]

    def _left(self) -> str:
        means = {stage: fmean(times.values()) for stage, times in self._seconds.items()}
        running = sum(time.monotonic() - began for began, _ in self._running.values())
        seconds, is_whole = remaining_seconds(Counter(self._pending.values()), means, slots=self._slots, spent=running)
        if not is_whole and seconds < 1:
            return "time left unknown"
        return f"{'about' if is_whole else 'more than'} {duration(seconds)} left"


class PlainBenchDisplay(BenchDisplay):
    """Lines, for a log: each end, and now and then what is running."""

    _spoke = float("-inf")

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._spoke >= PLAIN_SECONDS:
            self._spoke = now
            self._out.say("\n".join([self.headline(), *self.running_lines()]))

    def ended(self, label: str, stage: StageName, seconds: float) -> None:
        super().ended(label, stage, seconds)
        self._spoke = min(self._spoke, time.monotonic() - PLAIN_SECONDS / 2)


class LiveBenchDisplay(BenchDisplay):
    """A few lines that change in place, below what has ended."""

    def __init__(self, out: Output, live: Live, *, slots: int) -> None:
        super().__init__(out, slots=slots)
        self._live = live

    def tick(self) -> None:
        self._live.update(Text("\n".join([self.headline(), *self.running_lines()])))


@contextmanager
def open_bench_display(out: Output, *, slots: int) -> Iterator[BenchDisplay]:
    """The display that fits where the words go."""
    if not out.words.is_terminal:
        yield PlainBenchDisplay(out, slots=slots)
        return
    with Live(console=out.words, transient=True, refresh_per_second=4) as live:
        yield LiveBenchDisplay(out, live, slots=slots)


def remaining_seconds(
    pending: Mapping[StageName, int], means: Mapping[StageName, float], *, slots: int, spent: float = 0.0
) -> tuple[float, bool]:
    """Wall time that stages still take, and whether all of them are in it: of some kinds none was measured yet.

    `spent` is how long those that run now have been at it, added up. Ingest takes the machine for itself.
    """
    alone = pending.get("ingest", 0) * means.get("ingest", 0.0)
    shared = sum(count * means[stage] for stage, count in pending.items() if stage in means and stage != "ingest")
    is_whole = all(stage in means for stage, count in pending.items() if count)
    return alone + max(0.0, shared - spent) / slots, is_whole
