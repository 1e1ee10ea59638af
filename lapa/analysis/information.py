"""How much one labelling of frame pairs tells about another: entropy and mutual information, in bits.

m frame pairs, k codes per frame pair, a dimensions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from sklearn.cluster import KMeans
from sklearn.metrics import mutual_info_score

BINS = 8
"""Bins of equal frequency per dimension."""
CLUSTERS = 16
"""Of motion over all dimensions at once."""
DRAWS = 100

Labels = Int64[np.ndarray, " m"]


@dataclass(frozen=True, kw_only=True)
class Tie:
    """What two labellings share."""

    bits: float
    """Corrected for the finite sample (Miller and Madow); near 0 when there is nothing, and may be below."""
    uncorrected: float
    chance: float
    """95th percentile of `bits` where one labelling is out of step with the other."""
    chance_mean: float
    first_entropy: float
    second_entropy: float

    @property
    def share_of_first(self) -> float:
        """What the second tells of the first's entropy, above chance, in [0, 1]."""
        room = self.first_entropy - self.chance_mean
        return float(np.clip((self.bits - self.chance_mean) / room, 0, 1)) if room > 1e-9 else 0.0


def tie(first: Labels, second: Labels, *, draws: int = DRAWS) -> Tie:
    """Chance is measured by rotating one labelling against the other: neighbouring frame pairs look alike, and
    shuffling them one by one would make chance look smaller than it is."""
    first, second = dense(first), dense(second)
    rng = np.random.default_rng(0)
    size = len(first)
    shifts = rng.integers(size // 10 + 1, max(size - size // 10, size // 10 + 2), size=draws)
    by_chance = [information(np.roll(first, int(shift)), second) for shift in shifts]
    return Tie(
        bits=information(first, second),
        uncorrected=float(mutual_info_score(first, second) / np.log(2)),
        chance=float(np.quantile(by_chance, 0.95)),
        chance_mean=float(np.mean(by_chance)),
        first_entropy=entropy(first),
        second_entropy=entropy(second),
    )


def information(first: Labels, second: Labels) -> float:
    """Mutual information in bits, less the bias (cells - rows - columns + 1) / 2m of counting it (Miller and Madow)."""
    table = contingency(first, second)
    size = table.sum()
    shares = table / size
    expected = shares.sum(1, keepdims=True) * shares.sum(0, keepdims=True)
    seen = shares > 0
    nats = (shares[seen] * np.log(shares[seen] / expected[seen])).sum()
    rows, columns = (table.sum(1) > 0).sum(), (table.sum(0) > 0).sum()
    return float((nats - (seen.sum() - rows - columns + 1) / (2 * size)) / np.log(2))


def entropy(labels: Labels) -> float:
    """Of the labels' frequencies, in bits."""
    counts = np.unique(labels, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def perplexity(labels: Labels) -> float:
    """How many labels would be in use if all were used alike."""
    return float(2 ** entropy(labels))


def contingency(first: Labels, second: Labels) -> Int64[np.ndarray, "_ _"]:
    """Counts of pairs of labels 0, 1, …"""
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    return np.bincount(first * columns + second, minlength=rows * columns).reshape(rows, columns)


def joint_labels(codes: Int64[np.ndarray, "m k"]) -> Labels:
    """One label per distinct row, numbered from 0."""
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)


def dense(labels: Labels) -> Labels:
    """The same labelling, numbered from 0 without gaps."""
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def binned(values: Float[np.ndarray, " m"], bins: int = BINS) -> Labels:
    """Bins of equal frequency; fewer where values repeat (a gripper has two)."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return dense(np.searchsorted(edges, values, side="left"))


def clustered(values: Float[np.ndarray, "m a"], clusters: int = CLUSTERS) -> Labels:
    """Clusters over all dimensions, each scaled to its own spread."""
    spread = values.std(axis=0)
    varies = spread > 1e-9
    if not varies.any():
        return np.zeros(len(values), np.int64)
    scaled = (values[:, varies] - values[:, varies].mean(axis=0)) / spread[varies]
    distinct = len(np.unique(scaled, axis=0))
    model = KMeans(n_clusters=min(clusters, distinct), n_init=4, random_state=0)
    return np.asarray(model.fit_predict(scaled), np.int64)
