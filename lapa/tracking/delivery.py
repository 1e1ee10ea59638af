"""Carries journal entries to a tracking server in the background, however long the server is away."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from lapa.tracking.journal import Entry, Journal

logger = logging.getLogger(__name__)

BATCHED = ("metrics", "params", "tags")
"""Kinds that travel together in one request."""
MAX_BATCH_METRICS = 1000
MAX_BATCH_NAMES = 100
"""Limits of one MLflow `log-batch` request."""


class Refused(Exception):
    """The server answered, and will give the same answer however often it is asked."""


class Receiver(Protocol):
    """Takes entries for good, or raises: `Refused` for ever, anything else for now."""

    def take(self, entries: Sequence[Entry]) -> None: ...


class Delivery:
    """One thread that sends what is pending, oldest first, with exponential back-off between failures."""

    def __init__(
        self,
        journal: Journal,
        receiver: Receiver,
        *,
        every_seconds: float = 2.0,
        first_wait_seconds: float = 1.0,
        longest_wait_seconds: float = 60.0,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal, self._receiver, self._also = journal, receiver, also
        self._every, self._first_wait, self._longest_wait = every_seconds, first_wait_seconds, longest_wait_seconds
        self._wake, self._stopped, self._idle = threading.Event(), threading.Event(), threading.Condition()
        self._failures = 0
        self._thread = threading.Thread(target=self._work, name="lapa-tracking", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything is delivered; False when that took too long."""
        deadline = time.monotonic() + timeout_seconds
        self._wake.set()
        with self._idle:
            while len(self._journal) and self._thread.is_alive():
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                self._idle.wait(min(left, 0.1))
        return not len(self._journal)

    def stop(self, timeout_seconds: float = 1.0) -> None:
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._also()
            delivered = self._send_one_batch()
            if delivered and len(self._journal):
                continue
            with self._idle:
                self._idle.notify_all()
            wait = self._every
            if self._failures:
                wait = min(self._first_wait * 2 ** (self._failures - 1), self._longest_wait)
                self._stopped.wait(wait)  # a failing server is not asked more often because more is pending
            else:
                self._wake.wait(wait)
            self._wake.clear()

    def _send_one_batch(self) -> bool:
        """Whether a batch left the journal."""
        batch = next_batch(self._journal.pending(MAX_BATCH_METRICS))
        if not batch:
            return False
        try:
            send(batch, self._receiver, self._journal)
        except Exception as error:  # the network, the server, its database: all of them come back
            self._failures += 1
            if self._failures in (1, 5) or self._failures % 20 == 0:
                waiting = len(self._journal)
                logger.warning("tracking away pending=%d failures=%d why=%s", waiting, self._failures, brief(error))
            return False
        if self._failures:
            logger.info("tracking back failures=%d", self._failures)
        self._failures = 0
        return True


def send(batch: list[Entry], receiver: Receiver, journal: Journal) -> None:
    """Deliver a batch. When the server refuses it, entry by entry, so that one bad entry loses only itself."""
    try:
        receiver.take(batch)
        journal.delivered(batch)
    except Refused as refused:
        if len(batch) > 1:
            for entry in batch:
                send([entry], receiver, journal)
            return
        logger.warning("tracking refused kind=%s why=%s", batch[0].kind, brief(refused))
        journal.reject(batch[0], str(refused))
        journal.delivered(batch)


def next_batch(pending: Sequence[Entry]) -> list[Entry]:
    """The longest run of entries from the front that fits one request."""
    batch: list[Entry] = []
    counts = dict.fromkeys(BATCHED, 0)
    for entry in pending:
        if entry.kind not in BATCHED:
            return batch or [entry]
        counts[entry.kind] += len(entry.data.get("values", ()))
        full = counts["metrics"] > MAX_BATCH_METRICS or max(counts["params"], counts["tags"]) > MAX_BATCH_NAMES
        if full and batch:
            break
        batch.append(entry)
    return batch


def brief(error: Exception) -> str:
    """The first line of an error, short enough for a log."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
