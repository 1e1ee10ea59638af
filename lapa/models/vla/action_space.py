"""What a robot's action is: names, kinds, statistics and bins, fitted on the episodes that are learned.

Travels inside the model, so nothing is ever un-normalized with a file from elsewhere. numpy only.
k chunk length, a action dimensions.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, Self

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator

from lapa.config.base import Config
from lapa.errors import DataError


class ActionDimension(Config):
    """One dimension, in the robot's own units."""

    name: str
    kind: Literal["continuous", "discrete"]
    """`discrete`: at most two distinct values were seen (a gripper, a constant); they decode to themselves."""
    mean: float
    std: float
    min: float
    max: float
    q01: float
    q99: float
    entries: tuple[float, ...]
    """Continuous: ascending bin edges, one more than there are bins. Discrete: the values themselves."""

    @model_validator(mode="after")
    def _entries_ascend(self) -> Self:
        needed = 2 if self.kind == "continuous" else 1
        if len(self.entries) < needed or any(b <= a for a, b in zip(self.entries, self.entries[1:], strict=False)):
            raise ValueError(f"entries of {self.name} must be {needed} or more ascending numbers")
        return self

    @property
    def bins(self) -> int:
        return len(self.entries) - 1 if self.kind == "continuous" else len(self.entries)

    @property
    def centers(self) -> tuple[float, ...]:
        """The value each bin decodes to."""
        if self.kind == "discrete":
            return self.entries
        return tuple((low + high) / 2 for low, high in zip(self.entries, self.entries[1:], strict=False))

    @property
    def boundaries(self) -> tuple[float, ...]:
        """Inner borders between bins: a value's bin is the number of borders at or below it."""
        if self.kind == "continuous":
            return self.entries[1:-1]
        return tuple((low + high) / 2 for low, high in zip(self.entries, self.entries[1:], strict=False))


class ActionSpace(Config):
    """All dimensions of one action."""

    dimensions: tuple[ActionDimension, ...] = Field(min_length=1)

    @property
    def size(self) -> int:
        return len(self.dimensions)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def most_bins(self) -> int:
        """Bins of the dimension that has most: the size of the shared table."""
        return max(dimension.bins for dimension in self.dimensions)


def fit_action_space(actions: Float[np.ndarray, "n a"], names: Sequence[str] = (), bins: int = 256) -> ActionSpace:
    """Statistics and equal-frequency bins of recorded actions (paper section 3.3).

    Repeated quantiles are dropped, so a dimension may get fewer bins. DataError without finite actions.
    """
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim != 2 or not actions.size:
        raise DataError(f"actions have shape {actions.shape}; bins need at least one action. Ingest robot episodes.")
    if not np.isfinite(actions).all():
        raise DataError("recorded actions hold NaN or infinite values; ingest the episodes again without them.")
    names = dimension_names(names, actions.shape[1])
    if len(names) != actions.shape[1]:
        raise DataError(f"{len(names)} action names for {actions.shape[1]} dimensions; give one name per dimension.")
    return ActionSpace(dimensions=tuple(_fit_dimension(name, actions[:, i], bins) for i, name in enumerate(names)))


class ActionSummary(Protocol):
    """What is known of actions that are too many to be held at once."""

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]: ...

    def extremes(self) -> tuple[np.ndarray, np.ndarray]: ...

    def quantiles(self, shares: Sequence[float]) -> Float[np.ndarray, "s a"]: ...

    def few_values(self, place: int) -> np.ndarray | None:
        """The values of one dimension, ascending, where it has two at most."""
        ...


def summarized_action_space(summary: ActionSummary, names: Sequence[str] = (), bins: int = 256) -> ActionSpace:
    """As `fit_action_space`, from a summary."""
    (mean, std), (low, high) = summary.mean_and_std(), summary.extremes()
    names = dimension_names(names, len(mean))
    if len(names) != len(mean):
        raise DataError(f"{len(names)} action names for {len(mean)} dimensions; give one name per dimension.")
    edges = summary.quantiles(np.linspace(0, 1, bins + 1).tolist())
    first, last = summary.quantiles([0.01, 0.99])
    dimensions = []
    for place, name in enumerate(names):
        few = summary.few_values(place)
        entries = np.unique(edges[:, place]) if few is None else few
        dimensions.append(
            ActionDimension(
                name=name,
                kind="continuous" if few is None else "discrete",
                mean=float(mean[place]),
                std=float(std[place]),
                min=float(low[place]),
                max=float(high[place]),
                q01=float(first[place]),
                q99=float(last[place]),
                entries=tuple(float(entry) for entry in entries),
            )
        )
    return ActionSpace(dimensions=tuple(dimensions))


def dimension_names(names: Sequence[str], dims: int) -> tuple[str, ...]:
    """The dataset's names, or numbers where it has none."""
    return tuple(names) or tuple(f"action_{i}" for i in range(dims))


def _fit_dimension(name: str, values: np.ndarray, bins: int) -> ActionDimension:
    distinct = np.unique(values)
    discrete = len(distinct) <= 2
    entries = distinct if discrete else np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    return ActionDimension(
        name=name,
        kind="discrete" if discrete else "continuous",
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values.min()),
        max=float(values.max()),
        q01=float(np.quantile(values, 0.01)),
        q99=float(np.quantile(values, 0.99)),
        entries=tuple(float(entry) for entry in entries),
    )
