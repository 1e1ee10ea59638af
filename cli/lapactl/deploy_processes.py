"""Processes that outlive the command that started them, told alive by a lock that they hold.

A process inherits an open, locked file; the kernel lets go of the lock when the last holder ends, however it ends. So a
number that the system gave to another process since then is never mistaken for ours.
"""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STOP_SECONDS = 60.0
"""After SIGTERM; a server drains in this time. Then SIGKILL."""


class Detached:
    """A process by its name: `NAME.json` says what is known of it, `NAME.log` what it wrote, `NAME.lock` whether it
    lives."""

    def __init__(self, folder: Path, name: str) -> None:
        self._facts, self.log, self._lock = (folder / f"{name}.{end}" for end in ("json", "log", "lock"))

    def facts(self) -> dict[str, Any]:
        """Empty where it never was."""
        try:
            return dict(json.loads(self._facts.read_text()))
        except FileNotFoundError:
            return {}

    def note(self, **facts: Any) -> None:
        write_whole(self._facts, json.dumps({**self.facts(), **facts}))

    def start(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, **facts: Any) -> None:
        """A new log, a session of its own; what is known of an earlier one is forgotten."""
        self._facts.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock, self.log.open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)  # at most somebody looks, see below
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                pass_fds=(lock.fileno(),), env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )  # fmt: skip
        write_whole(self._facts, json.dumps({"pid": process.pid, **facts}))

    def is_alive(self) -> bool:
        try:
            with self._lock.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who looks is not in another's way
            return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def stop(self) -> None:
        """It may drain; returns when it is gone, and its files with it but for the log."""
        deadline = time.monotonic() + STOP_SECONDS
        if self.is_alive():
            self._signal(signal.SIGTERM)
        while self.is_alive():
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            time.sleep(0.05)
        for path in (self._facts, self._lock):
            path.unlink(missing_ok=True)

    def said(self) -> str:
        try:
            return self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(int(self.facts()["pid"]), number)


def write_whole(path: Path, text: str) -> None:
    """A reader sees the old text or the new one."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; for a few milliseconds each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
