"""Several machines that make the units of one ingest, with nothing between them but the dataset's folder.

A unit is claimed with a small file that holds a number, raised while its owner lives. Others watch that number by a
clock of their own, so the clocks of two machines are never compared. Claims only save work: a unit that two machines
make at once, because they claimed it in the same moment or one slept for long, is the same bytes twice.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lapa import files
from lapa.errors import ConfigError

logger = logging.getLogger(__name__)

CLAIMS_FOLDER = "_claims"
COUNT_VARIABLE = "LAPA_INGEST_NODES"
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""Kubernetes sets it in every pod of an Indexed Job."""


@dataclass(frozen=True, kw_only=True)
class Peers:
    """One of several machines with the same ingest; the first one finishes it."""

    index: int = 0
    count: int = 1
    lease_seconds: float = 120.0
    """After this time without a sign of life, a claim of another machine is void."""
    poll_seconds: float = 5.0

    @property
    def finishes(self) -> bool:
        return self.index == 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Raises ConfigError for numbers that do not fit."""
        if COUNT_VARIABLE not in environment:
            return cls()
        index, count = environment.get(INDEX_VARIABLE, "0"), environment[COUNT_VARIABLE]
        if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise ConfigError(
                f"{INDEX_VARIABLE}={index} is no number below {COUNT_VARIABLE}={count}. Start the nodes with "
                "`lapactl submit ingest --nodes N`, or give every one its index from 0 on."
            )
        return cls(index=int(index), count=int(count))


ALONE = Peers()


class Claims:
    """What this machine is at. Nothing is written where it is alone."""

    def __init__(self, output_url: str, peers: Peers) -> None:
        self._url = files.join(output_url, CLAIMS_FOLDER)
        self._peers = peers
        self._held: set[int] = set()
        self._beat = 0
        self._watched: dict[int, tuple[tuple[int, int], float]] = {}
        """Of units that others claim: what the claim said, and since when."""
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        if self._peers.count > 1:
            self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for number in tuple(self._held):
            self.give_back(number)
        if self._renewing.is_alive():
            self._renewing.join()

    def taken(self, numbers: Sequence[int]) -> Iterator[int]:
        """Those that this machine claims, each when it is asked for. Machines begin at different places."""
        start = len(numbers) * self._peers.index // self._peers.count
        for number in (*numbers[start:], *numbers[:start]):
            if self._take(number):
                yield number

    def give_back(self, number: int) -> None:
        """A unit that is done, or that this machine no longer makes."""
        with self._guard:
            if number in self._held:
                self._held.discard(number)
                files.remove(self._claim_url(number))

    def _take(self, number: int) -> bool:
        if self._peers.count == 1:
            return True
        owner = self._owner(number)
        if owner is not None and owner != self._peers.index:
            return False
        with self._guard:
            self._held.add(number)
        self._write(number)
        return True

    def _owner(self, number: int) -> int | None:
        """Index of the machine that is at a unit; None where there is none, or it gave no sign of life."""
        try:
            claim = files.read_json(self._claim_url(number))
            said = int(claim["index"]), int(claim["beat"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        now = time.monotonic()
        if number not in self._watched or self._watched[number][0] != said:
            self._watched[number] = said, now
        return said[0] if now - self._watched[number][1] < self._peers.lease_seconds else None

    def _write(self, number: int) -> None:
        files.write_json(self._claim_url(number), {"index": self._peers.index, "beat": self._beat})

    def _renew(self) -> None:
        while not self._stopping.wait(self._peers.lease_seconds / 4):
            self._beat += 1
            for number in tuple(self._held):
                with self._guard:
                    if number not in self._held:
                        continue
                    try:
                        self._write(number)
                    except OSError as error:  # the next renewal comes before the lease ends
                        logger.warning("event=claim-not-renewed unit=%d why=%s", number, error)

    def _claim_url(self, number: int) -> str:
        return files.join(self._url, f"{number:05d}.json")
