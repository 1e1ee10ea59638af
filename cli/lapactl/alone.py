"""One writer in a folder at a time, those that a killed program of ours left behind included."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lapa.errors import ConfigError

LOCK_SECONDS = 60.0
"""Stages whose starter was killed save what they have and end within this time."""


@contextmanager
def held_alone(file: Path, *, others: str, busy: str, tell: Callable[[str], object]) -> Iterator[int]:
    """A lock on `file`, as a descriptor. Processes that inherit it hold it until they end, also when we are killed.

    While `others` hold it that is told, and waited for; ConfigError, with the words `busy`, when they do not end.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(lock, others, busy, tell)
        yield lock
    finally:
        os.close(lock)


def _take(lock: int, others: str, busy: str, tell: Callable[[str], object]) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    is_told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConfigError(busy) from None
            if not is_told:
                tell(f"waiting for {others}")
                is_told = True
            time.sleep(0.5)
        else:
            return
