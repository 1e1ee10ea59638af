"""Batches for training and validation: the sample order made flesh.

A lane decodes the episodes of its current block, once, and draws the block's samples from them. Frames
travel as uint8 at the size they are stored; resizing and normalizing happen on the device.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lapa.config.data import StreamConfig
from lapa.data.dataset import Dataset
from lapa.data.frames import Clip, EpisodeReader, episode_arrays, episode_frames, shard_episodes
from lapa.data.mixture_order import MixtureOrder
from lapa.data.order import SampleOrder, own_lanes
from lapa.data.samples import Samples, SampleSpec, SampleTable
from lapa.data.splits import split_rows
from lapa.errors import ConfigError, LapaError
from lapa.types.batches import Batch

__all__ = [
    "SampleSpec",
    "episode_arrays",
    "episode_frames",
    "shard_episodes",
    "training_batches",
    "validation_batches",
]

logger = logging.getLogger(__name__)

Order = SampleOrder | MixtureOrder

_VALIDATION_EPISODES = 256
"""Validation looks at no more episodes than this, so that its time does not grow with the dataset."""

_PORTIONS = 8
"""Requests that a block is read with: few enough to be long, enough to spread the decoding."""


def training_batches(
    dataset: Dataset,
    spec: SampleSpec,
    config: StreamConfig,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    rank: int,
    world_size: int,
) -> Iterator[Batch]:
    """This rank's share of each global batch of ``batch_size``, from batch ``start_step`` on, without end.

    Raises ConfigError where lanes, batch, ranks and workers do not divide each other; DataError where there is
    nothing to train on, or a shard is damaged.
    """
    own_lanes(config.lanes, batch_size=batch_size, rank=rank, world_size=world_size, workers=max(config.workers, 1))
    table = SampleTable.build(dataset, spec, split_rows(dataset, config.validation_share)[0])
    order = _order(table, config, seed)
    logger.info(
        "stream=training episodes=%d episodes_without_samples=%d samples_per_epoch=%d",
        len(table.rows), int((table.counts == 0).sum()), order.samples_per_epoch,
    )  # fmt: skip
    parts = _Parts(table, order, batch_size=batch_size, start_step=start_step, rank=rank, world_size=world_size)
    return parts.batches() if config.workers == 0 else _from_workers(parts, config.workers)


def validation_batches(
    dataset: Dataset,
    spec: SampleSpec,
    config: StreamConfig,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    max_batches: int,
) -> Iterator[Batch]:
    """Held-out samples, spread evenly over episodes and time; the same ones at every call. Of a mixture, by its shares.

    Every rank gets the same number of equal batches. Their union does not depend on the number of ranks,
    except that fewer samples than one batch are rounded to a multiple of the ranks. Nothing where no episode
    is held out, or none of the held-out ones is longer than the window.
    """
    rows = split_rows(dataset, config.validation_share)[1]
    table = SampleTable.build(dataset, spec, rows).nonempty()
    table = table.take(_validation_episodes(table))
    share = batch_size // world_size
    if share == 0:
        raise ConfigError(f"batch_size={batch_size} is below {world_size} ranks; set it to at least {world_size}.")
    total = int(table.counts.sum())
    if total == 0:
        return
    batches = max(1, min(max_batches, total // batch_size))
    if total < batch_size:
        share = max(1, total // world_size)
    reader = _validation_reader(table)
    ends = np.cumsum(table.counts)
    size = share * world_size
    for batch in range(batches):
        # Every batch strides over all episodes; a rank takes neighbours, which it decodes alone.
        places = (np.arange(size) * batches + batch)[rank * share : (rank + 1) * share]
        sequence = _evenly(table, places, size * batches)
        episodes = np.searchsorted(ends, sequence, side="right")
        timesteps = table.timesteps(episodes, sequence - (ends - table.counts)[episodes])
        spans = table.spans(episodes, timesteps)
        reader.read_ahead(spans)
        yield table.batch([Samples(episodes, timesteps, reader.clips(spans))])


def _order(table: SampleTable, config: StreamConfig, seed: int) -> Order:
    settings: dict[str, Any] = {"lanes": config.lanes, "shuffle_samples": config.shuffle_samples, "seed": seed}
    members = table.members
    if members is None:
        return SampleOrder(table.counts, table.shards, **settings)
    mixed = table.dataset.info.members
    shares, names = [member.share for member in mixed], [member.name for member in mixed]
    return MixtureOrder(table.counts, table.shards, members, shares=shares, names=names, **settings)


def _validation_episodes(table: SampleTable) -> Int64[np.ndarray, " m"]:
    """Evenly spread over the table; of a mixture, as many of each member as its share is worth, one at least."""
    members = table.members
    if members is None:
        return _spread(np.arange(len(table.rows)), _VALIDATION_EPISODES)
    parts = [
        _spread(np.flatnonzero(members == place), max(1, round(_VALIDATION_EPISODES * member.share)))
        for place, member in enumerate(table.dataset.info.members)
    ]
    return np.concatenate(parts)


def _spread(places: Int64[np.ndarray, " e"], most: int) -> Int64[np.ndarray, " m"]:
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).round().astype(np.int64)]


def _evenly(table: SampleTable, places: Int64[np.ndarray, " m"], of: int) -> Int64[np.ndarray, " m"]:
    """Which samples, counted through the table, stand at these of ``of`` places that are spread over all of them."""
    members = table.members
    if members is None:
        return ((places + 0.5) * int(table.counts.sum()) / of).astype(np.int64)
    shares = np.array([member.share for member in table.dataset.info.members])
    totals = np.bincount(members, table.counts, minlength=len(shares)).astype(np.int64)
    shares = np.where(totals > 0, shares, 0)
    shares = shares / shares.sum()
    starts, spread = np.cumsum(shares) - shares, (places + 0.5) / of
    present = np.flatnonzero(totals)
    mine = present[np.searchsorted(starts[present], spread, side="right") - 1]
    inside = np.floor((spread - starts[mine]) / shares[mine] * totals[mine]).astype(np.int64)
    return (np.cumsum(totals) - totals)[mine] + np.clip(inside, 0, totals[mine] - 1)


class _Lane:
    """Reads one lane, block by block. The next block is decoded little by little while this one is drawn from."""

    def __init__(self, table: SampleTable, order: Order, reader: EpisodeReader, lane: int, position: int) -> None:
        self._table, self._order, self._reader, self._lane = table, order, reader, lane
        self._position = position
        self._clips: dict[int, Clip] = {}
        self._plan(position)
        self._enter()

    def take(self, count: int) -> Iterator[Samples]:
        while count:
            if self._position == self._block.end:
                self._enter()
            offset = self._position - self._block.first
            size = min(count, self._block.size - offset)
            here = slice(offset, offset + size)
            yield Samples(self._episodes[here], self._timesteps[here], self._clips)
            self._position += size
            count -= size
            self._read_ahead(until=(offset + size) / self._block.size)

    def _enter(self) -> None:
        """Step into the planned block."""
        self._read_ahead(until=1.0)
        self._block, self._clips = self._next, self._next_clips
        self._episodes, self._timesteps = self._next_samples
        self._plan(self._block.end)

    def _plan(self, position: int) -> None:
        self._next = self._order.block_at(self._lane, position)
        self._next_clips: dict[int, Clip] = {}
        timesteps = self._table.timesteps(self._next.episodes, self._next.timesteps)
        self._next_samples = self._next.episodes, timesteps
        spans = self._table.spans(*self._next_samples)
        self._reader.read_ahead(spans, held=self._clips)
        portion = -(-len(spans) // _PORTIONS)
        self._unread = [spans[first : first + portion] for first in range(0, len(spans), portion)]
        self._portions = len(self._unread)

    def _read_ahead(self, *, until: float) -> None:
        """Decode up to this share of the planned block."""
        while self._unread and self._portions - len(self._unread) < int(until * self._portions):
            # The last episode of this block usually goes on in the next one.
            self._next_clips |= self._reader.clips(self._unread.pop(0), held=self._clips)


class _Parts(IterableDataset):  # type: ignore[type-arg]
    """Endless parts of this rank's batches: the whole share, or that of one worker's lanes."""

    def __init__(
        self, table: SampleTable, order: Order, *, batch_size: int, start_step: int, rank: int, world_size: int
    ) -> None:
        self._table, self._order = table, order
        self._batch_size, self._start_step = batch_size, start_step
        self._rank, self._world_size = rank, world_size

    def __iter__(self) -> Iterator[Any]:
        """What a worker sends: batches, or in their place an error that the user is meant to read."""
        try:
            yield from self.batches()
        except LapaError as error:
            yield error

    def batches(self) -> Iterator[Batch]:
        worker = get_worker_info()
        own = own_lanes(
            self._order.lanes,
            batch_size=self._batch_size,
            rank=self._rank,
            world_size=self._world_size,
            worker=worker.id if worker else 0,
            workers=worker.num_workers if worker else 1,
        )
        per_lane = self._batch_size // self._order.lanes
        reader = self._table.reader()
        lanes = [_Lane(self._table, self._order, reader, lane, self._start_step * per_lane) for lane in own]
        while True:
            yield self._table.batch([samples for lane in lanes for samples in lane.take(per_lane)])


def _from_workers(parts: _Parts, workers: int) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(
        parts,
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_leave_process_group,
        # A forked worker would inherit S3 sessions, a CUDA context and locks that nobody can release.
        multiprocessing_context="spawn",
        prefetch_factor=2,
        persistent_workers=True,
    )
    received = iter(loader)
    while True:
        # The loader takes turns over its workers: as many parts in a row make one batch, in lane order.
        yield _joined([_checked(next(received)) for _ in range(workers)])


def _unchanged(part: Any) -> Any:
    return part


def _leave_process_group(worker: int) -> None:
    """Ctrl-C and torchrun signal the whole group; the stream must outlive them until the step is saved."""
    os.setpgid(0, 0)


def _checked(part: Batch | LapaError) -> Batch:
    if isinstance(part, LapaError):
        raise part
    return part


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for field in fields(Batch):
        values = [getattr(part, field.name) for part in parts]
        match values[0]:
            case Tensor():
                joined[field.name] = torch.cat(values)
            case tuple():
                joined[field.name] = tuple(item for value in values for item in value)
            case _:
                joined[field.name] = None
    return Batch(**joined)


_VALIDATION_READERS: OrderedDict[tuple[str, str, bool], EpisodeReader] = OrderedDict()


def _validation_reader(table: SampleTable) -> EpisodeReader:
    """The same reader at every validation, so that small validation sets are decoded once."""
    key = (table.dataset.url, table.dataset.revision, table.spec.needs_arrays)
    if key not in _VALIDATION_READERS:
        _VALIDATION_READERS[key] = table.reader()
        if len(_VALIDATION_READERS) > 2:
            _VALIDATION_READERS.popitem(last=False)
    return _VALIDATION_READERS[key]
