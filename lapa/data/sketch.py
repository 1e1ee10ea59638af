"""Statistics of numbers that are seen once: moments, extremes and quantiles of any amount in little memory.

Up to `EXACT_ROWS` everything is kept and the numbers are exact; beyond, quantiles come from a t-digest (Dunning,
arXiv 1902.04023; the one of Apache DataSketches, which draws nothing at random). t timesteps, d dimensions.
"""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from datasketches import tdigest_double
from jaxtyping import Float64

from lapa.errors import DataError

EXACT_ROWS = 1_000_000
DETAIL = 10_000
"""Of the t-digest, which then takes 0.2 MB for each dimension: quantiles are off by at most 5 in 10,000 of the rows in
the middle, and by 2 in 100,000 at the 1st and 99th percentile."""


FEW = 2


class Sketch:
    """Fed array by array, in any cuts: they change nothing but the last digits of mean and spread."""

    def __init__(self, *, exact_rows: int = EXACT_ROWS) -> None:
        self.rows = 0
        self._exact_rows = exact_rows
        self._kept: list[np.ndarray] = []
        """Everything, until it is too much."""
        self._digests: list[tdigest_double] = []
        self._mean: np.ndarray = np.zeros(0)
        self._squares: np.ndarray = np.zeros(0)
        """Sum of the squared distances from the mean."""
        self._distinct: list[np.ndarray] = []
        """Of each dimension, while there are few."""

    @classmethod
    def of(cls, parts: Iterable[np.ndarray], *, exact_rows: int = EXACT_ROWS) -> Self:
        """Of arrays ``t d``, each looked at once. DataError for a number that is none."""
        sketch = cls(exact_rows=exact_rows)
        for part in parts:
            sketch.update(part)
        return sketch

    @property
    def exact(self) -> np.ndarray | None:
        """Every row, ``t d``, while there are few enough."""
        return np.concatenate(self._kept) if self._kept else None

    def update(self, part: np.ndarray) -> None:
        if not len(part):
            return
        if not np.isfinite(part).all():
            raise DataError("recorded actions hold NaN or infinite values; ingest the episodes again without them.")
        if not self._digests:
            self._kept.append(part)
            self.rows += len(part)
            if self.rows > self._exact_rows:
                self._spill()
        else:
            self._add(part)

    def mean_and_std(self) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, " d"]]:
        if self._digests:
            return self._mean, np.sqrt(self._squares / self.rows)
        mean = sum(part.sum(axis=0, dtype=np.float64) for part in self._kept) / self.rows
        variance = sum(np.square(part - mean).sum(axis=0) for part in self._kept) / self.rows
        return np.asarray(mean), np.sqrt(variance)

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest number of each dimension."""
        if self._digests:
            low, high = ([getattr(digest, name)() for digest in self._digests] for name in _EXTREMES)
            return np.array(low), np.array(high)
        lows, highs = ([end(part, axis=0) for part in self._kept] for end in (np.min, np.max))
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def quantiles(self, shares: Sequence[float]) -> Float64[np.ndarray, "s d"]:
        """Ascending in every dimension."""
        if self._digests:
            return np.array([[digest.get_quantile(share) for digest in self._digests] for share in shares])
        return np.asarray(np.quantile(np.concatenate(self._kept), shares, axis=0))

    def few_values(self, place: int) -> np.ndarray | None:
        """The values of one dimension, ascending, where it has two at most: a gripper, a constant."""
        values = self._distinct[place] if self._digests else np.unique(np.concatenate(self._kept)[:, place])
        return values if len(values) <= FEW else None

    def _spill(self) -> None:
        """From here on, sketch."""
        kept, self._kept, self.rows = self._kept, [], 0
        dims = kept[0].shape[1]
        self._digests = [tdigest_double(DETAIL) for _ in range(dims)]
        self._mean, self._squares = np.zeros(dims), np.zeros(dims)
        self._distinct = [np.zeros(0)] * dims
        for part in kept:
            self._add(part)

    def _add(self, part: np.ndarray) -> None:
        """Moments are merged as Chan, Golub and LeVeque do (1979): sums of squares would cancel."""
        values = part.astype(np.float64)
        mean, count = values.mean(axis=0), self.rows + len(values)
        apart = mean - self._mean
        self._squares += np.square(values - mean).sum(axis=0) + apart**2 * (self.rows * len(values) / count)
        self._mean += apart * (len(values) / count)
        self.rows = count
        for digest, column in zip(self._digests, values.T, strict=True):
            digest.update(np.ascontiguousarray(column))
        for place, known in enumerate(self._distinct):
            if len(known) <= FEW:
                self._distinct[place] = np.unique(np.concatenate([known, values[:, place]]))[: FEW + 1]


_EXTREMES = ("get_min_value", "get_max_value")
