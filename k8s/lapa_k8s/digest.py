"""What went wrong in a job, from what its pods said and how they ended. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lapa_k8s.base import Manifest
from lapa_k8s.exit_codes import meaning_of, was_killed
from lapa_k8s.log_lines import LogLine, parse_line
from lapa_k8s.states import ends

MAX_TRACEBACK = 60
_STEP = re.compile(r"\bstep=(\d+)")
_ERROR = re.compile(
    r"^(\w[\w.]*(Error|Exception|Collapsed|NotFinite|Mismatch|NotFound|Failures|Refused|Interrupt)): .*"
)


class _Known(NamedTuple):
    """An error that is known by its words."""

    kind: str
    pattern: re.Pattern[str]
    remedy: str = ""
    """Where it says more than the exit code."""
    is_said_in_passing: bool = False
    """Warnings say it too, of what was tried again: it counts in an error's own words only."""
    is_effect: bool = False
    """What happens to the others after one rank fails."""


_KNOWN = (
    _Known("GPU memory ran out", re.compile(r"CUDA out of memory|OutOfMemoryError")),
    _Known(
        "a collective timed out: one rank stopped before",
        re.compile(r"Watchdog caught collective operation timeout"),
        is_effect=True,
    ),
    _Known(
        "a rank lost its peer, which stopped before",
        re.compile(r"gloo.*Connection (reset|closed) by peer|remote process exited or there was a network error"),
        is_effect=True,
    ),
    _Known(
        "/dev/shm is full",
        re.compile(r"Bus error|No space left on device.*shm|unable to (write|mmap).*shared memory"),
    ),
    _Known("the disk is full", re.compile(r"No space left on device")),
    _Known("a decoding worker was killed", re.compile(r"DataLoader worker .* killed")),
    _Known(
        "the object store refused",
        re.compile(
            r"AccessRefused|PermissionError: (Forbidden|Access ?Denied|The access key)|"
            r"NoCredentialsError|AccessDenied|SignatureDoesNotMatch|InvalidAccessKeyId",
            re.IGNORECASE,
        ),
        remedy="the profile's storage.secret or service_account names whose rights a job has; "
        "`lapactl doctor --cluster` looks at them",
        is_said_in_passing=True,
    ),
)
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
    told = _known([line.words for line in spoken])
    has_ended = has_failed or bool(failed)
    if (told is None or told.is_effect) and (spoken or has_ended):
        told = _known([line.words for line in said], is_error=False) or told
    remedy = meaning_of(failed[0]).remedy if failed else (GONE if has_failed and not pods else "")
    # A container that was killed did not end by what it said.
    if told is not None and told.remedy and has_ended and not (failed and was_killed(failed[0])):
        remedy = told.remedy
    return Digest(
        rank=first.rank if first else None,
        pod=first.pod if first else (failed[0].pod if failed else None),
        error=spoken[-1].words if spoken else None,
        kind=told.kind if told else None,
        traceback=tuple(line.words for line in traceback[-MAX_TRACEBACK:]),
        last_step=max(steps, default=None),
        endings=tuple(Ending(end.pod, end.exit_code, meaning_of(end).words, end.finished) for end in failed),
        remedy=remedy,
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


def _known(words: Sequence[str], *, is_error: bool = True) -> _Known | None:
    """What is known of an error's own words, or of all that was said: a cause before an effect, the first one said."""
    found = [
        known
        for text in words
        for known in _KNOWN
        if (is_error or not known.is_said_in_passing or _ERROR.match(text)) and known.pattern.search(text)
    ]
    return next((known for known in found if not known.is_effect), found[0] if found else None)


def _last_words(pods: Sequence[Manifest]) -> list[LogLine]:
    return [parse_line(end.pod, line) for end in ends(pods) for line in end.message.splitlines()]
