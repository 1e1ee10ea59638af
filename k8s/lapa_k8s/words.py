"""What a diagnosis is made of."""

import re
from typing import NamedTuple

MAX_WORDS = 240


class Diagnosis(NamedTuple):
    """One sentence, and the next move; empty where there is none."""

    why: str
    remedy: str


def first_sentence(message: str) -> str:
    """The part of a long message that says it."""
    line = message.strip().split("\n")[0]
    sentence = re.split(r"(?<=[a-z\"')\]])\. ", line)[0]
    return sentence if len(sentence) <= MAX_WORDS else f"{sentence[: MAX_WORDS - 1]}…"
