"""Lines of many ranks as one log; pure.

torchrun puts the global rank in front of each line of a rank (`environment.py` tells it to), the server puts the time
in front of that: `2026-01-01T00:00:00.5Z [rank12]: step=100 loss=0.3`. Lines of the launcher itself have no rank.
"""

import heapq
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_RANK = re.compile(r"^\[rank(\d+)\]: ?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_OWN_RANK = re.compile(r"\brank=(\d+)\b")


class LogLine(NamedTuple):
    """One line of one pod."""

    time: str
    """As the server wrote it, RFC 3339 with nanoseconds; sorts as text."""
    pod: str
    rank: int | None
    """Global rank; None for the launcher's own words."""
    words: str

    @property
    def text(self) -> str:
        """As people read it: who says what."""
        who = f"rank {self.rank}" if self.rank is not None else self.pod
        return f"[{who}] {self.words}"


def parse_line(pod: str, line: str) -> LogLine:
    time, _, words = line.partition(" ")
    if not _TIME.match(time):  # words without the server's time: a status message
        time, words = "", line
    words = words.rstrip("\r\n")
    if match := _RANK.match(words):
        return LogLine(time, pod, int(match[1]), words[match.end() :])
    own = _OWN_RANK.search(words[:120])  # a stage without a launcher says its rank in its own format
    return LogLine(time, pod, int(own[1]) if own else None, words)


def merge_lines(logs: Iterable[Iterable[LogLine]]) -> Iterator[LogLine]:
    """By time over all pods; a pod's own lines keep their order."""
    return heapq.merge(*logs, key=lambda line: line.time)


def is_of_rank(line: LogLine, rank: int | None) -> bool:
    """Whether a line is wanted; without a rank every line is."""
    return rank is None or line.rank == rank


def node_order(pod: str) -> tuple[int, str]:
    """Pods in the order of their index: `…-worker-10` after `…-worker-9`, `…-node-0-3-abcde` by its 3."""
    numbers = re.findall(r"-(\d+)(?=-|$)", pod)
    return (int(numbers[-1]) if numbers else 0, pod)
