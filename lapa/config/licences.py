"""What a dataset's licence allows, as far as its name tells."""

import re
from collections.abc import Mapping, Sequence

_FREE = ("APACHE-", "MIT", "BSD-", "CC0-", "CC-BY-", "ODC-BY", "ODBL", "PDDL", "CDLA-PERMISSIVE", "UNLICENSE", "ISC")
"""Beginnings of licences that let everybody use the data for money, as long as the name holds nothing of the next."""
_RESERVED = ("NC", "NONCOMMERCIAL", "RESEARCH", "ACADEMIC", "NON")
"""Words of a licence that keeps commercial use for its owner."""


def allows_commercial_use(licence: str) -> bool | None:
    """None where the name does not tell: an own one, `unknown`, or one that forbids adapted works (ND)."""
    name = re.sub(r"[\s_]+", "-", licence.strip().upper())
    words = re.split(r"[-.,;()/]+", name)
    if any(word in _RESERVED for word in words):
        return False
    if "ND" in words:
        return None
    return True if name.startswith(_FREE) else None


def licence_problem(use: str, licences: Mapping[str, Sequence[str]], allowed: Sequence[str]) -> str | None:
    """What keeps datasets (by name, the licences of each) from a use, in one sentence with what to do; or None."""
    if use != "commercial":
        return None
    for dataset, names in licences.items():
        for licence in names:
            if licence in allowed or (verdict := allows_commercial_use(licence)):
                continue
            why = "forbids" if verdict is False else "is not known to allow"
            return (
                f"the run's use is commercial, and the licence '{licence}' of {dataset} {why} that: leave the dataset "
                f"out, set use=research, or, where you hold another agreement, add '{licence}' to allowed_licences"
            )
    return None
