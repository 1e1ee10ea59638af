"""What went wrong in a job, from what its pods said and how they ended. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.exit_codes import meaning_of
from lapa_k8s.log_lines import LogLine, parse_line
from lapa_k8s.states import ends

MAX_TRACEBACK = 60
_STEP = re.compile(r"\bstep=(\d+)")
_ERROR = re.compile(
    r"^(\w[\w.]*(Error|Exception|Collapsed|NotFinite|Mismatch|NotFound|Failures|Refused|Interrupt)): .*"
)
_KINDS = {
    "GPU memory ran out": re.compile(r"CUDA out of memory|OutOfMemoryError"),
    "a collective timed out: one rank stopped before": re.compile(r"Watchdog caught collective operation timeout"),
    "a rank lost its peer, which stopped before": re.compile(
        r"gloo.*Connection (reset|closed) by peer|remote process exited or there was a network error"
    ),
    "/dev/shm is full": re.compile(r"Bus error|No space left on device.*shm|unable to (write|mmap).*shared memory"),
    "the disk is full": re.compile(r"No space left on device"),
    "a decoding worker was killed": re.compile(r"DataLoader worker .* killed"),
    "the object store refused": re.compile(
        r"AccessRefused|PermissionError: (Forbidden|Access ?Denied|The access key)|"
        r"NoCredentialsError|AccessDenied|SignatureDoesNotMatch|InvalidAccessKeyId",
        re.IGNORECASE,
    ),
}
_REMEDIES = {
    "the object store refused": "the profile's storage.secret or service_account names whose rights a job has; "
    "`lapactl doctor --cluster` looks at them",
}
"""Where what went wrong says more than the exit code."""
GONE = (
    "its pods are gone, and what they said with them, unless the cluster collects logs; submit it again with --new "
    "--follow to read along"
)
"""PyTorchJob's operator removes pods that start again and again, once it gives a job up."""
_TRACEBACK = "Traceback (most recent"
_CHAINS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_EFFECTS = ("a collective timed out: one rank stopped before", "a rank lost its peer, which stopped before")
"""What happens to the others after one rank fails."""


class Ending(NamedTuple):
    """One end of a container."""

    pod: str
    exit_code: int
    meaning: str
    finished: str


class Digest(NamedTuple):
    """The story in short."""

    rank: int | None
    pod: str | None
    error: str | None
    """Its last line: type and message."""
    kind: str | None
    """What such an error is, in words, where it is a known one."""
    traceback: tuple[str, ...]
    last_step: int | None
    endings: tuple[Ending, ...]
    """Every end of a container that is still known, the first one first."""
    remedy: str


def digest_of(pods: Sequence[Manifest], lines: Iterable[LogLine], *, has_failed: bool = False) -> Digest:
    """Where no log is left, the last words that the pods' statuses keep are read instead.

    `has_failed`: the job has, for good.
    """
    said = list(lines) or _last_words(pods)
    traceback = _first_traceback(said)
    failed = ends(pods)
    steps = [int(match[1]) for line in said if (match := _STEP.search(line.words))]
    # What a user can mend is one line, without a traceback.
    spoken = traceback or [line for line in said if _ERROR.match(line.words)][:1]
    first = spoken[0] if spoken else None
    kind = _kind(line.words for line in said)
    by_exit = meaning_of(failed[0]).remedy if failed else (GONE if has_failed and not pods else "")
    return Digest(
        rank=first.rank if first else None,
        pod=first.pod if first else (failed[0].pod if failed else None),
        error=spoken[-1].words if spoken else None,
        kind=kind,
        traceback=tuple(line.words for line in traceback[-MAX_TRACEBACK:]),
        last_step=max(steps, default=None),
        endings=tuple(Ending(end.pod, end.exit_code, meaning_of(end).words, end.finished) for end in failed),
        remedy=_REMEDIES.get(kind or "", by_exit),
    )


def _first_traceback(lines: Sequence[LogLine]) -> list[LogLine]:
    """The first one by time: later ones are as a rule of ranks that lost their peer. Ranks talk across each other, so
    only lines of the one that began are taken. An error that was raised from another belongs to it: the last one is
    what the program made of the first."""
    start = next((index for index, line in enumerate(lines) if line.words.startswith(_TRACEBACK)), None)
    if start is None:
        return []
    speaker = (lines[start].pod, lines[start].rank)
    own = [line for line in lines[start:] if (line.pod, line.rank) == speaker]
    end, is_over, is_chained = len(own), False, False
    for index, line in enumerate(own):
        if is_over and line.words in _CHAINS:
            is_chained = True
        elif is_over and is_chained and line.words.startswith(_TRACEBACK):
            is_over = is_chained = False
        elif is_over and line.words:
            break
        elif not is_over and line.words and not line.words[0].isspace() and not line.words.startswith(_TRACEBACK):
            end, is_over = index + 1, True  # the error itself
    return own[:end]


def _kind(words: Iterable[str]) -> str | None:
    found = {kind: None for text in words for kind, pattern in _KINDS.items() if pattern.search(text)}
    causes = [kind for kind in found if kind not in _EFFECTS]
    return next(iter([*causes, *found]), None)


def _last_words(pods: Sequence[Manifest]) -> list[LogLine]:
    return [parse_line(end.pod, line) for end in ends(pods) for line in end.message.splitlines()]
