"""A stage's process: started, followed through its progress file, asked to save when the user stops it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from lapa.process import STARTER_VARIABLE
from lapa.tracking.progress import PROGRESS_VARIABLE

POLL_SECONDS = 0.2
Event = Mapping[str, Any]


class Ended(NamedTuple):
    """How a process ended; a negative code is the signal that ended it."""

    exit_code: int
    was_interrupted: bool


class StageProcess:
    """One process with its log and its progress. Leaving the context kills what is still running."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        on_event: Callable[[Event], None],
        environment: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        """`environment` on top of ours; `keep_open` are file descriptors that the process inherits."""
        self._scratch = tempfile.TemporaryDirectory(prefix="lapactl-")
        events = Path(self._scratch.name) / "progress.jsonl"
        ours = {**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1", PROGRESS_VARIABLE: str(events)}
        self._reader, self._on_event = _EventReader(events), on_event
        with log.open("ab") as sink:
            # A session of its own: Ctrl-C reaches us alone, and a SIGTERM from us lets it save first.
            self._process = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=ours,
                start_new_session=True,
                pass_fds=tuple(keep_open),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Deliver what the process reported since the last time; its exit code once it has ended."""
        code = self._process.poll()  # first: what was written before the end is read after it
        for event in self._reader.read():
            self._on_event(event)
        return code

    def stop(self) -> None:
        """Ask it to save and end. To torchrun or the stage alone: torchrun passes it on, and stages share it with
        their own workers."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        with suppress(ProcessLookupError):  # it ended in the meantime
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing behind, neither an orphan nor the progress file."""
        if self._process.poll() is None:
            self.kill()
            self._process.wait()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_process(
    command: Sequence[str], *, log: Path, on_event: Callable[[Event], None], keep_open: Sequence[int] = ()
) -> Ended:
    """Run to the end, appending what it says to `log`. Ctrl-C and SIGTERM ask it to save and stop; twice, kill it.

    Programs of ours save and stop, too, when we are killed (`lapa.process.stop_with_starter`).
    """
    ours = {STARTER_VARIABLE: str(os.getpid())}
    process = StageProcess(command, log=log, on_event=on_event, environment=ours, keep_open=keep_open)
    with process, stopping(lambda: [process]) as stops:
        while (code := process.poll()) is None:
            time.sleep(POLL_SECONDS)
        return Ended(code, bool(stops))


@contextmanager
def stopping(running: Callable[[], Sequence[StageProcess]]) -> Iterator[list[int]]:
    """While open, a first SIGINT or SIGTERM asks what is running to stop, a second kills it; yields those that came."""
    stops: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stops.append(number)
        for process in running():
            if len(stops) == 1:
                process.stop()
            else:
                process.kill()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stops
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def undone_when_stopped() -> Iterator[None]:
    """While open, SIGTERM and a terminal that is closed end this program as Ctrl-C does: what was begun is undone.

    The first of them ends it; those that come while it is undone change nothing. A program that was started to outlive
    its terminal (nohup) still does.
    """
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, _frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


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
