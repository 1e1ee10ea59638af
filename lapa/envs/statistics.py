"""How sure a success rate is, and whether two policies differ on the same episodes."""

from collections.abc import Sequence
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


@dataclass(frozen=True, kw_only=True)
class GainShare:
    """How much of a ceiling's gain over a base a method reaches: 0 is the base, 1 the ceiling."""

    share: float
    interval: Interval | None
    """95 %, by bootstrap; None where the ceiling's gain is too uncertain for one."""


def gain_share(
    base: Sequence[Bool[np.ndarray, " n"]],
    method: Sequence[Bool[np.ndarray, " n"]],
    ceiling: Sequence[Bool[np.ndarray, " n"]],
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> GainShare | None:
    """The share over all seeds, one array of outcomes per seed, each policy's episode `i` begun in the same state.

    The bootstrap draws seeds, and within each of them episodes, the same ones for all three policies. None where the
    ceiling is not above the base.
    """
    pairs = [np.stack(outcomes).astype(float) for outcomes in zip(base, method, ceiling, strict=True)]
    share = _share(np.mean([rates.mean(1) for rates in pairs], axis=0))
    if share is None:
        return None
    random = np.random.default_rng(seed)
    shares = []
    for _ in range(replicates):
        drawn = [pairs[index] for index in random.integers(len(pairs), size=len(pairs))]
        means = [rates[:, random.integers(rates.shape[1], size=rates.shape[1])].mean(1) for rates in drawn]
        shares.append(_share(np.mean(means, axis=0)))
    known = [value for value in shares if value is not None]
    if len(known) < 0.975 * replicates:
        return GainShare(share=share, interval=None)
    low, high = np.quantile(known, [0.025, 0.975])
    return GainShare(share=share, interval=Interval(low=float(low), high=float(high)))


def _share(rates: np.ndarray) -> float | None:
    base, method, ceiling = rates.tolist()
    return (method - base) / (ceiling - base) if ceiling > base else None
