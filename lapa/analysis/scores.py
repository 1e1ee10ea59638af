"""R2 of a prediction, per dimension, with an interval from a bootstrap over episodes.

m frame pairs, a dimensions, e episodes, r resamples.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from lapa.analysis.records import Score

STILL = 1e-12
"""Variance below which a dimension never varies: it has no R2."""
RESAMPLES = 200
CONFIDENCE = 0.95


def r2_scores(
    truth: Float[np.ndarray, "m a"],
    predicted: Float[np.ndarray, "m a"],
    episodes: Int64[np.ndarray, " m"],
    names: Sequence[str],
) -> tuple[Score, dict[str, Score]]:
    """The mean over dimensions that vary, and each dimension by name.

    Frame pairs of one episode overlap and resemble each other, so whole episodes are drawn anew for the interval.
    """
    sums = _episode_sums(truth, predicted, episodes)
    draws = _resampled(sums)
    whole = _r2(sums.sum(axis=0)[None])[0]
    dimensions = {name: _score(whole[i], draws[:, i]) for i, name in enumerate(names)}
    varies = np.isfinite(whole)
    if not varies.any():
        return Score(r2=None), dimensions
    with np.errstate(invalid="ignore"):
        means = np.nanmean(np.where(np.isfinite(draws[:, varies]), draws[:, varies], np.nan), axis=1)
    return _score(float(whole[varies].mean()), means), dimensions


def mean_interval(values: Float[np.ndarray, " m"], episodes: Int64[np.ndarray, " m"]) -> tuple[float, float, float]:
    """The mean, and its interval over episodes."""
    groups = np.unique(episodes, return_inverse=True)[1]
    totals = np.bincount(groups, weights=values)
    counts = np.bincount(groups).astype(np.float64)
    weights = _weights(len(totals))
    low, high = _interval((weights @ totals) / (weights @ counts))
    return float(values.mean()), low, high


def _episode_sums(truth: np.ndarray, predicted: np.ndarray, episodes: np.ndarray) -> Float[np.ndarray, "e 4 a"]:
    """Count, sum, sum of squares and squared residuals: R2 of any multiset of episodes follows from their sums."""
    groups = np.unique(episodes, return_inverse=True)[1]
    centred = truth - truth.mean(axis=0)  # R2 does not change, and squares lose no digits
    parts = np.stack([np.ones_like(centred), centred, centred**2, (truth - predicted) ** 2], axis=1)
    sums = np.zeros((groups.max() + 1, *parts.shape[1:]))
    np.add.at(sums, groups, parts)
    return sums


def _r2(sums: Float[np.ndarray, "r 4 a"]) -> Float[np.ndarray, "r a"]:
    """NaN where nothing varies."""
    count, total, squares, residual = (sums[:, i] for i in range(4))
    around_mean = squares - total**2 / count
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(around_mean > STILL * count, 1 - residual / around_mean, np.nan))


def _resampled(sums: Float[np.ndarray, "e 4 a"]) -> Float[np.ndarray, "r a"]:
    return _r2(np.einsum("re,exa->rxa", _weights(len(sums)), sums))


def _weights(num_episodes: int) -> Float[np.ndarray, "r e"]:
    """How often each episode is drawn, per resample."""
    shares = np.full(num_episodes, 1 / num_episodes)
    return np.random.default_rng(0).multinomial(num_episodes, shares, size=RESAMPLES).astype(np.float64)


def _score(r2: float, draws: np.ndarray) -> Score:
    if not np.isfinite(r2):
        return Score(r2=None)
    low, high = _interval(draws[np.isfinite(draws)])
    return Score(r2=float(r2), low=low, high=high)


def _interval(draws: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
