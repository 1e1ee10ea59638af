"""How a rank's share of a global batch is cut into the micro batches of one update."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from lapa.types.batches import Batch


@dataclass(frozen=True)
class MicroBatch:
    """Samples that go through the model together."""

    batch: Batch
    places: Sequence[int]
    """Where each of them lies in the rank's share."""


def micro_batches(batch: Batch, size: int | None, lengths: Sequence[int] | None = None) -> list[MicroBatch]:
    """Pieces of at most `size` samples: consecutive ones, or, with `lengths`, ones of like length."""
    if size is None or size >= batch.size:
        return [MicroBatch(batch, range(batch.size))]
    assert lengths is None or len(lengths) == batch.size, f"{len(lengths)} lengths of {batch.size} samples"
    order = range(batch.size) if lengths is None else longest_first(lengths)
    return [_taken(batch, order[start : start + size]) for start in range(0, batch.size, size)]


def longest_first(lengths: Sequence[int]) -> Sequence[int]:
    """The order in which pieces of like length are cut; samples of one length keep theirs.

    A piece is as long as its longest sample, so that pieces of like length compute little padding. The longest come
    first: what does not fit into memory fails at once, and what is allocated for them serves all others.
    """
    places = range(len(lengths))
    return sorted(places, key=lambda place: -lengths[place]) if len(set(lengths)) > 1 else places


def _taken(batch: Batch, places: Sequence[int]) -> MicroBatch:
    """The samples at `places`, in that order: of every field, and without a copy where places follow each other."""
    rows = slice(places.start, places.stop) if isinstance(places, range) else torch.tensor(places)
    changes: dict[str, Any] = {
        field.name: tuple(value[place] for place in places) if isinstance(value, tuple) else value[rows]
        for field in fields(batch)
        if (value := getattr(batch, field.name)) is not None
    }
    return MicroBatch(replace(batch, **changes), places)
