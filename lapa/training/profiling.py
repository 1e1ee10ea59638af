"""Where the time of a run goes: phases of its loop, a trace for Chrome or Perfetto, and one line that says what limits.

The loop marks its phases with `phase`, which costs nothing while nobody looks. While a profile looks, the device is
waited for at the end of each phase, so that a phase's time is its own; phases do not nest.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from lapa.training.hooks import Hook, MetricsSink

logger = logging.getLogger(__name__)

Phase = Literal[
    "data", "to device", "forward", "backward", "optimizer", "logging", "validation", "checkpoint", "writing"
]
Limit = Literal["data", "compute", "communication", "logging", "validation", "checkpoint", "writing"]
LIMITS: dict[Phase, Limit] = {
    "data": "data",
    "to device": "data",
    "forward": "compute",
    "backward": "compute",
    "optimizer": "compute",
    "logging": "logging",
    "validation": "validation",
    "checkpoint": "checkpoint",
    "writing": "writing",
}
TRACE = "trace.json.gz"


@dataclass
class Clock:
    """Seconds of each phase, of this rank."""

    device: torch.device
    seconds: dict[Phase, float] = field(default_factory=dict)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


_running: ContextVar[Clock | None] = ContextVar("profile", default=None)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Inside, time belongs to this phase, where a profile looks."""
    clock = _running.get()
    if clock is None:
        yield
        return
    started = time.perf_counter()
    with record_function(f"lapa: {name}"):
        yield
        clock.synchronize()
    clock.seconds[name] = clock.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Of the time that was looked at."""

    seconds: float
    steps: int
    phases: Mapping[Phase, float]
    """Communication taken out of the phase that waited for it."""
    communication: float

    @property
    def by_limit(self) -> dict[Limit, float]:
        sums: dict[Limit, float] = {"data": 0.0, "compute": 0.0, "communication": self.communication}
        for name, share in self.phases.items():
            sums[LIMITS[name]] = sums.get(LIMITS[name], 0.0) + share
        return sums

    @property
    def limit(self) -> Limit:
        return max(self.by_limit, key=lambda name: self.by_limit[name])

    def line(self) -> str:
        """The answer, in one line."""
        parts = [f"{name} {share:.0%}" for name, share in self.phases.items()]
        limits, step = self.by_limit, self.seconds / max(self.steps, 1)
        return (
            f"limited by {self.limit} ({limits[self.limit]:.0%} of {step:.3g} s a step, over {self.steps} steps): "
            f"data {limits['data']:.0%}, compute {limits['compute']:.0%}, communication {limits['communication']:.0%}; "
            f"in the loop: {', '.join(parts)}"
        )

    def metrics(self) -> dict[str, float]:
        named = {f"profile/{name.replace(' ', '_')}": share for name, share in self.phases.items()}
        return named | {"profile/communication": self.communication, "profile/step_seconds": self.seconds / self.steps}


class ProfileHook(Hook):
    """Looks at some updates of this process; keeps `line` for the stage's summary.

    `keep` is given the trace file. Logs a line and metrics; on every rank, of which the main one is asked.
    """

    def __init__(
        self,
        *,
        steps: int,
        after: int,
        device: torch.device,
        tracker: MetricsSink,
        keep: Callable[[Path], object],
        scratch: Path,
    ) -> None:
        self.steps, self.after, self.device = steps, after, device
        self.tracker, self.keep, self.scratch = tracker, keep, scratch
        self.line: str | None = None
        self._seen = self._step = 0
        self._profile: Any = None

    def after_update(self, step: int) -> None:
        if self._seen == self.after and self.steps:
            self._start()
        elif self._profile is not None and self._seen == self.after + self.steps:
            self._stop(step)
        self._seen, self._step = self._seen + 1, step

    def close(self) -> None:
        """A run that ended while it was looked at says what was seen."""
        if self._profile is not None:
            self._stop(self._step)

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._clock = Clock(self.device)
        self._token = _running.set(self._clock)
        self._profile = profile(activities=activities)
        self._profile.__enter__()
        self._started, self._first = time.perf_counter(), self._seen

    def _stop(self, step: int) -> None:
        self._clock.synchronize()
        seconds, looked = time.perf_counter() - self._started, self._seen - self._first
        _running.reset(self._token)
        finished, self._profile = self._profile, None
        finished.__exit__(None, None, None)
        shares = shares_of(self._clock.seconds, finished.events(), seconds=seconds, steps=max(looked, 1))
        self.line = shares.line()
        logger.info("event=profile step=%d %s", step, self.line)
        self.tracker.log_metrics(shares.metrics(), step)
        trace = self.scratch / TRACE
        finished.export_chrome_trace(str(trace))
        self.keep(trace)


def shares_of(phases: Mapping[Phase, float], events: Iterable[Any], *, seconds: float, steps: int) -> Shares:
    """Collectives overlap computation on a device: what counts is when nothing else ran there."""
    spans: dict[Phase, list[tuple[float, float]]] = {name: [] for name in phases}
    waits: list[tuple[float, float]] = []
    work: list[tuple[float, float]] = []
    for event in events:
        span = (event.time_range.start / 1e6, event.time_range.end / 1e6)
        on_device = "CPU" not in str(event.device_type)
        if event.name.startswith("lapa: "):
            if not on_device:
                spans.setdefault(event.name.removeprefix("lapa: "), []).append(span)
        elif event.name.lower().startswith(("gloo:", "nccl", "c10d::")):
            waits.append(span)
        elif on_device:
            work.append(span)
    exposed = without(merged(waits), merged(work))
    inside = {name: overlap(exposed, merged(found)) for name, found in spans.items()}
    return Shares(
        seconds=seconds,
        steps=steps,
        phases={name: max(spent - inside.get(name, 0.0), 0.0) / seconds for name, spent in phases.items()},
        communication=sum(inside.values()) / seconds,
    )


def merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Their union."""
    union: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def without(spans: list[tuple[float, float]], holes: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Parts of `spans` in none of `holes`; both merged."""
    left: list[tuple[float, float]] = []
    for start, end in spans:
        for first, last in holes:
            if last <= start or first >= end:
                continue
            if first > start:
                left.append((start, first))
            start = max(start, last)
            if start >= end:
                break
        if start < end:
            left.append((start, end))
    return left


def overlap(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> float:
    """Time in both; each merged."""
    total = sum(end - start for start, end in first)
    return total - sum(end - start for start, end in without(first, second))
