"""How sure a success rate is, and whether two policies differ on the same episodes."""

from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Confidence limits of a rate, in [0, 1]."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Two policies on the same initial states, counted in episodes."""

    wins: int
    """Only the first policy succeeded."""
    losses: int
    """Only the second policy succeeded."""
    ties: int
    difference: float
    """Success rate of the first minus that of the second."""
    standard_error: float
    """Of the difference, from the paired outcomes."""
    p_value: float
    """McNemar's exact test, two-sided: how likely wins and losses this uneven are by chance."""


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a binomial rate; good for small counts and rates near 0 and 1."""
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials is not a rate")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    centre = rate + z**2 / (2 * trials)
    spread = z * sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return Interval(low=max(0.0, (centre - spread) / scale), high=min(1.0, (centre + spread) / scale))


def compare_paired(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> PairedComparison:
    """Compare two policies whose episode `i` began in the same state."""
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(f"{len(first)} and {len(second)} episodes cannot be paired")
    wins, losses = int((first & ~second).sum()), int((~first & second).sum())
    episodes = len(first)
    uneven = wins - losses
    return PairedComparison(
        wins=wins,
        losses=losses,
        ties=episodes - wins - losses,
        difference=uneven / episodes,
        standard_error=sqrt(wins + losses - uneven**2 / episodes) / episodes,
        p_value=mcnemar_exact(wins, losses),
    )


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided p value of a fair coin falling at least as unevenly as `wins` to `losses`."""
    decided = wins + losses
    tail: float = sum(comb(decided, k) for k in range(min(wins, losses) + 1)) / 2**decided
    return min(1.0, 2 * tail)
