"""Progress of a running stage: a live bar on a terminal, a line now and then elsewhere. Words, so on stderr."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from lapactl.output import Output, duration, readable

PLAIN_SECONDS = 15.0
"""Time between two lines where nobody watches live."""
SHOWN_METRICS = 3
Event = Mapping[str, Any]


class StageDisplay(Protocol):
    """What follows a stage."""

    def update(self, event: Event) -> None:
        """Show an event of the stage's progress file; its `note` stays."""

    def note(self, words: str) -> None:
        """Say something that stays."""


@contextmanager
def open_display(out: Output, label: str) -> Iterator[StageDisplay]:
    """The display that fits where the words go."""
    if not out.words.is_terminal:
        yield PlainDisplay(out, label)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, TimeElapsedColumn(), console=out.words, transient=True) as progress:
        yield LiveDisplay(progress, progress.add_task(label, total=None, words="starting"), out, label)


class LiveDisplay:
    """One bar that moves."""

    def __init__(self, progress: Progress, task: TaskID, out: Output, label: str) -> None:
        self._progress, self._task, self._out, self._label = progress, task, out, label

    def update(self, event: Event) -> None:
        if event.get("note"):
            self.note(f"{self._label}: {event['note']}")
            return
        position: dict[str, Any] = {}
        if "steps" in event:  # a validation or a checkpoint leaves the bar where it is
            position = {"total": event["steps"], "completed": event.get("step") or 0}
        description = f"{self._label} {event.get('phase', '')}"
        self._progress.update(self._task, description=description, words=describe_event(event), **position)

    def note(self, words: str) -> None:
        self._out.say(words)


class PlainDisplay:
    """A line at the first sight of a phase, and then every `PLAIN_SECONDS`."""

    def __init__(self, out: Output, label: str) -> None:
        self._out, self._label = out, label
        self._phases: set[str] = set()
        self._spoke = float("-inf")

    def update(self, event: Event) -> None:
        if event.get("note"):
            self.note(f"{self._label}: {event['note']}")
            return
        now, phase = time.monotonic(), event.get("phase", "")
        if phase in self._phases and now - self._spoke < PLAIN_SECONDS:
            return
        self._phases.add(phase)
        self._spoke = now
        self._out.say(f"{self._label} {phase} {describe_event(event)}".rstrip())

    def note(self, words: str) -> None:
        self._out.say(words)


def describe_event(event: Event) -> str:
    """`120/500 steps, 14.2 steps/s, 27s left, loss 0.0312`: whatever of it the event knows."""
    step, steps, rate = event.get("step"), event.get("steps"), event.get("rate")
    unit = event.get("unit") or "steps"
    parts = []
    if step is not None:
        parts.append(f"{step:,}/{steps:,} {unit}" if steps else f"{step:,} {unit}")
    if rate:
        parts.append(f"{rate:.3g} {unit}/s")
    if rate and steps and step is not None:
        parts.append(f"{duration((steps - step) / rate)} left")
    metrics = event.get("metrics") or {}
    parts += [f"{name} {readable(value)}" for name, value in list(metrics.items())[:SHOWN_METRICS]]
    if event.get("message"):
        parts.append(str(event["message"]))
    return ", ".join(parts)
