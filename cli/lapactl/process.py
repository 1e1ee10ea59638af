"""One stage's process: started, followed through its progress file, asked to save when the user stops it."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lapa.tracking.progress import PROGRESS_VARIABLE

POLL_SECONDS = 0.2
Event = Mapping[str, Any]


class Ended(NamedTuple):
    """How a process ended; a negative code is the signal that ended it."""

    exit_code: int
    was_interrupted: bool


def run_process(command: Sequence[str], *, log: Path, on_event: Callable[[Event], None]) -> Ended:
    """Run to the end, appending what it says to `log`. Ctrl-C and SIGTERM ask it to save and stop; twice, kill it."""
    with tempfile.TemporaryDirectory(prefix="lapactl-") as scratch, log.open("ab") as sink:
        events = Path(scratch) / "progress.jsonl"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", PROGRESS_VARIABLE: str(events)}
        # A session of its own: Ctrl-C reaches us alone, and a SIGTERM from us lets it save first.
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        with _stopping(process) as stops:
            reader = _EventReader(events)
            while process.poll() is None:
                for event in reader.read():
                    on_event(event)
                time.sleep(POLL_SECONDS)
            for event in reader.read():
                on_event(event)
            return Ended(process.returncode, bool(stops))


class _EventReader:
    """Reads whole lines that were added since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> Iterator[Event]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                yield json.loads(line)


@contextmanager
def _stopping(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """While open, a first SIGINT or SIGTERM is passed on as SIGTERM and a second kills; yields the ones that came."""
    stops: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stops.append(number)
        # To torchrun or the stage alone: torchrun passes it on, and stages share it with their own workers.
        if len(stops) == 1:
            process.send_signal(signal.SIGTERM)
        else:
            os.killpg(process.pid, signal.SIGKILL)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stops
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if process.poll() is None:  # we fail ourselves: leave no orphan
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
