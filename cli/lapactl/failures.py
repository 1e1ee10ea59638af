"""What went wrong in a process of ours, from its words: the user's error if there is one, else the end of them."""

import re
from collections.abc import Iterator

from lapa.errors import LapaError

LAST_LINES = 12
_NOT_THE_MESSAGE = re.compile(r"^(\d{4}-\d\d-\d\d |[EIW]\d{4} |Traceback |={10}|-{10})")
"""A log record, torchrun's own reports, or a traceback: the message above it has ended."""


def explain_failure(words: str) -> str:
    """The last error of `lapa.errors` that was written, whole; else the last lines."""
    lines = words.splitlines()
    names = "|".join(sorted(_names(LapaError)))
    is_error = re.compile(rf"^(?:\[rank\d+\]:\s*)?(?:lapa\.\S+\.)?({names}): ")
    starts = [index for index, line in enumerate(lines) if is_error.match(line)]
    if not starts:
        return "\n".join(f"  | {line}" for line in lines[-LAST_LINES:]) or "It wrote nothing."
    message = [is_error.sub(r"\1: ", lines[starts[-1]])]
    for line in lines[starts[-1] + 1 :]:
        if _NOT_THE_MESSAGE.match(line):
            break
        message.append(line)
    return "\n".join(message).strip()


def _names(error: type[LapaError]) -> Iterator[str]:
    yield error.__name__
    for below in error.__subclasses__():
        yield from _names(below)
