"""Randomness that needs no saving: each step's seed is a function of the run's seed and the step."""

import hashlib


def mix(seed: int, *parts: int | str) -> int:
    """A 63-bit seed from a seed and what it is for; stable over machines, processes and Python versions."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
