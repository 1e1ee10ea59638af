"""What a LeRobot dataset says of its own numbers, whatever its version, and whether an episode agrees.

v2.0 and v3.0 keep one `meta/stats.json` for the dataset, v2.1 a line per episode in `meta/episodes_stats.jsonl`.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lapa import files

logger = logging.getLogger(__name__)

SLACK = 1e-3
"""Share of a dimension's range by which a value may leave it: statistics are rounded, and kept in other precisions."""


@dataclass(frozen=True, kw_only=True)
class ColumnStatistics:
    """Per dimension of one column, over the whole dataset; float64 ``d``."""

    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for anything but four equally long lists of numbers."""
        parts = {name: np.asarray(values[name], np.float64).reshape(-1) for name in ("mean", "std", "min", "max")}
        if len({len(part) for part in parts.values()}) != 1:
            raise ValueError("mean, std, min and max have different lengths")
        return cls(**parts)

    def outside(self, values: np.ndarray) -> list[int]:
        """Dimensions of ``t d`` values that leave [min, max]; all of them where their number differs."""
        if values.shape[1] != len(self.min):
            return list(range(values.shape[1]))
        room = SLACK * (self.max - self.min) + 1e-6
        away = (values < self.min - room) | (values > self.max + room)
        return [int(dimension) for dimension in np.flatnonzero(away.any(axis=0))]


def read_statistics(url: str, names: Mapping[str, Any], columns: list[str]) -> dict[str, ColumnStatistics]:
    """Declared statistics of the columns; none, with a warning, where they are missing or damaged.

    `names` are the dataset's files. Ingest computes its own statistics: these are only compared with the rows.
    """
    try:
        if "meta/stats.json" in names:
            found = files.read_json(files.join(url, "meta/stats.json"))
            return {column: ColumnStatistics.of(found[column]) for column in columns if column in found}
        if "meta/episodes_stats.jsonl" in names:
            text = files.read_bytes(files.join(url, "meta/episodes_stats.jsonl")).decode()
            lines = [json.loads(line)["stats"] for line in text.splitlines() if line.strip()]
            return {column: _pooled(column, lines) for column in columns if any(column in line for line in lines)}
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("event=statistics-unreadable source=%s error=%r", url, error)
        return {}
    logger.warning("event=statistics-missing source=%s", url)
    return {}


def warn_outside(
    statistics: Mapping[str, ColumnStatistics], column: str | None, values: np.ndarray | None, episode: str
) -> None:
    """Log where an episode's numbers leave the declared range: its rows or the dataset's statistics are stale."""
    declared = statistics.get(column or "")
    if declared is None or values is None or not np.isfinite(values).all():
        return
    if dimensions := declared.outside(values):
        logger.warning("event=statistics-differ episode=%s column=%s dimensions=%s", episode, column, dimensions)


def _pooled(column: str, lines: list[dict[str, Any]]) -> ColumnStatistics:
    parts = [line[column] for line in lines if column in line]
    each = [ColumnStatistics.of(part) for part in parts]
    counts = np.array([float(np.asarray(part["count"]).reshape(-1)[0]) for part in parts])[:, None]
    total = counts.sum()
    mean = (counts * [part.mean for part in each]).sum(axis=0) / total
    spread = [part.std**2 + (part.mean - mean) ** 2 for part in each]
    return ColumnStatistics(
        mean=mean,
        std=np.sqrt((counts * spread).sum(axis=0) / total),
        min=np.min([part.min for part in each], axis=0),
        max=np.max([part.max for part in each], axis=0),
    )
