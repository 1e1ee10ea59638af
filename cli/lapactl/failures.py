"""What went wrong in a process of ours, from its words: the user's error if there is one, else the end of them."""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from lapa.errors import LapaError

LAST_LINES = 12
_NOT_THE_MESSAGE = re.compile(r"^(\d{4}-\d\d-\d\d |[EIW]\d{4} |Traceback |={10}|-{10})")
"""A log record, torchrun's own reports, or a traceback: the message above it has ended."""


class OwnError(NamedTuple):
    """One of `lapa.errors`, as its process wrote it."""

    kind: str
    message: str


def explain_failure(words: str) -> str:
    """The last error of `lapa.errors` that was written, whole; else the last lines."""
    if (told := own_error(words)) is not None:
        return f"{told.kind}: {told.message}"
    return "\n".join(f"  | {line}" for line in words.splitlines()[-LAST_LINES:]) or "It wrote nothing."


def own_error(words: str) -> OwnError | None:
    """The last error of `lapa.errors` that was written, whole."""
    lines = words.splitlines()
    names = "|".join(sorted(_names(LapaError)))
    is_error = re.compile(rf"^(?:\[rank\d+\]:\s*)?(?:lapa\.\S+\.)?({names}): ")
    starts = [(index, match) for index, line in enumerate(lines) if (match := is_error.match(line))]
    if not starts:
        return None
    index, match = starts[-1]
    rest = itertools.takewhile(lambda line: not _NOT_THE_MESSAGE.match(line), lines[index + 1 :])
    return OwnError(match[1], "\n".join([lines[index][match.end() :], *rest]).strip())


def _names(error: type[LapaError]) -> Iterator[str]:
    yield error.__name__
    for below in error.__subclasses__():
        yield from _names(below)
