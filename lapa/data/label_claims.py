"""Who labels which shard: claims beside the labels, so that any number of processes and jobs share one dataset.

    URL/claims/shard-00012-000    somebody works on shard 12; gone when its labels are there

A claim is made by a write that succeeds for one only, and holds its owner's machine, process and a number. The owner
raises the number while it lives. Whoever waits for the shard watches that number by a clock of its own (clocks of two
machines are never compared): unchanged for the lease, the owner is dead, or as good as dead, and the first to make the
claim's next generation takes over; a process that is gone from the watcher's own machine needs no waiting for. Labels
have the same bytes whoever writes them, so a claim saves work and guards nothing: an owner that wakes up late does no
harm.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from lapa import files
from lapa.data.dataset import Dataset
from lapa.data.labels import LabelWriter

logger = logging.getLogger(__name__)

CLAIMS_FOLDER = "claims"
BEATS_PER_LEASE = 4


class Claims:
    """The claims of one process. Inside `with`, the one it holds is kept alive by a thread."""

    def __init__(self, labels_url: str, *, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = files.join(labels_url, CLAIMS_FOLDER)
        self.lease_seconds = lease_seconds
        self.owner = uuid.uuid4().hex
        self._clock = clock
        self._held: str | None = None
        self._beats = 0
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._stop = threading.Event()
        self._change = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="label-claims", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def generations(self) -> dict[int, int]:
        """Shards somebody has claimed, and how often their claims were taken over."""
        latest: dict[int, int] = {}
        for name in files.list_names(self.url):
            parts = name.split("-")
            if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
                latest[int(parts[1])] = max(int(parts[2]), latest.get(int(parts[1]), 0))
        return latest

    @contextmanager
    def taken(self, shard: int, generation: int = 0) -> Iterator[bool]:
        """Whether the claim became ours; if so it is until the block ends."""
        url = self._claim_url(shard, generation)
        if not files.create(url, self._content()):
            yield False
            return
        with self._change:
            self._held = url
        try:
            yield True
        finally:
            with self._change:  # not while it is rewritten: it would come back
                self._held = None
            files.remove(url)

    def is_silent(self, shard: int, generation: int) -> bool:
        """Whether its owner is gone from this machine, or has not changed it for a lease since we first looked."""
        url = self._claim_url(shard, generation)
        try:
            content = files.read_bytes(url)
        except FileNotFoundError:
            return False  # its owner is done
        if _is_gone(content):
            return True
        now = self._clock()
        before, since = self._seen.get(url, (b"", now))
        if content != before:
            self._seen[url] = (content, now)
            return False
        return now - since >= self.lease_seconds

    def _claim_url(self, shard: int, generation: int) -> str:
        return files.join(self.url, f"shard-{shard:05d}-{generation:03d}")

    def _content(self) -> bytes:
        self._beats += 1
        return f"{socket.gethostname()} {os.getpid()} {self.owner} {self._beats}\n".encode()

    def _beat(self) -> None:
        while not self._stop.wait(self.lease_seconds / BEATS_PER_LEASE):
            with self._change:
                if self._held is None:
                    continue
                try:
                    files.write_bytes(self._held, self._content())
                # Storage clients raise their own errors; whatever it was, labelling goes on.
                except Exception as error:
                    logger.warning("event=claim-not-renewed url=%s error=%s", self._held, error)


def _is_gone(claim: bytes) -> bool:
    """Whether a process of this machine made it, and has ended."""
    host, pid, *_ = [*claim.decode(errors="replace").split(), "", ""]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False


def shards_to_label(
    writer: LabelWriter,
    dataset: Dataset,
    claims: Claims,
    *,
    rank: int = 0,
    world_size: int = 1,
    wait: Callable[[float], object] = time.sleep,
) -> Generator[tuple[int, int], None, None]:
    """Shards for this process to label, each with how many are left, until every shard has labels, whoever wrote them.

    Raises LabelMismatch where finished labels of another stamp lie there. A process begins at its own place among the
    shards, so that few ask for the same one.
    """
    left = writer.missing_shards(dataset)
    begin = len(left) * rank // world_size
    left = left[begin:] + left[:begin]
    while left:
        claimed = claims.generations()
        free = [shard for shard in left if shard not in claimed]
        silent = [] if free else [shard for shard in left if claims.is_silent(shard, claimed[shard])]
        if not free and not silent:
            wait(claims.lease_seconds / BEATS_PER_LEASE)
        for shard in [*free, *silent][:1]:
            with claims.taken(shard, claimed[shard] + 1 if shard in claimed else 0) as is_ours:
                # Its labels may have come, and their claim gone, since we looked.
                if is_ours and writer.lacks([shard]):
                    if shard in claimed:
                        logger.warning("event=claim-taken-over shard=%d lease_seconds=%g", shard, claims.lease_seconds)
                    yield shard, len(left)
        left = _still(left, writer.lacks(left))


def _still(left: Sequence[int], lacking: Sequence[int]) -> list[int]:
    wanted = set(lacking)
    return [shard for shard in left if shard in wanted]
