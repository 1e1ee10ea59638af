"""The order of training samples: a pure function of seed and sample counter.

Samples are numbered by one counter g = 0, 1, 2, … over the whole run. Counter g belongs to epoch g // N
(N samples per epoch) and to lane g % L: L reading positions that move through the epoch side by side.
An epoch's shards are permuted, its samples laid out shard after shard and episode after episode, and that
sequence is cut into one contiguous segment per lane, each exactly as long as the counter demands. Inside
its segment a lane shuffles one block of consecutive samples at a time.

So a lane reads shards front to back and holds one block in memory, a batch mixes L blocks from distant
parts of the epoch, and neither ranks nor workers enter the definition: whoever owns a lane reads it, from
any counter on, without looking at what came before.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int64

from lapa.errors import ConfigError, DataError

_SHARD_STREAM, _PHASE_STREAM, _BLOCK_STREAM = range(3)


@dataclass(frozen=True)
class Block:
    """Consecutive samples of one lane that are shuffled together, in the order they are drawn. m samples."""

    first: int
    """Position in the lane of the first sample; the lane's position p has the counter p * lanes + lane."""
    episodes: Int64[np.ndarray, " m"]
    """Index into the ``counts`` the order was built from."""
    timesteps: Int64[np.ndarray, " m"]

    @property
    def size(self) -> int:
        return len(self.episodes)

    @property
    def end(self) -> int:
        return self.first + self.size


@dataclass(frozen=True)
class _Epoch:
    """Layout of one epoch. e episodes, l lanes."""

    episodes: Int64[np.ndarray, " e"]
    """Episodes in reading order."""
    starts: Int64[np.ndarray, " e+1"]
    """Where each episode's samples begin in the epoch's sequence."""
    lane_starts: Int64[np.ndarray, " _bounds"]
    """Where each lane's segment begins in the epoch's sequence."""
    lane_first: Int64[np.ndarray, " l"]
    """Lane position of the first sample of this epoch."""
    phase: int
    """Shift of the block boundaries: keeps the lanes from needing their next block all at once."""

    def samples(self, sequence: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
        """Episodes and timesteps of places in the epoch's sequence."""
        places = np.searchsorted(self.starts, sequence, side="right") - 1
        return self.episodes[places], sequence - self.starts[places]


class SampleOrder:
    """Which sample stands at which counter.

    counts: samples of each episode (timesteps 0 … counts-1), e episodes in shard order; shards: each
    episode's shard. Raises DataError when there is no sample at all.
    """

    def __init__(
        self,
        counts: Int64[np.ndarray, " e"],
        shards: Int64[np.ndarray, " e"],
        *,
        lanes: int,
        shuffle_samples: int,
        seed: int,
    ) -> None:
        self.samples_per_epoch = int(np.sum(counts))
        if self.samples_per_epoch == 0:
            raise DataError(
                f"none of the {len(counts)} episodes holds a sample: all are shorter than the window. "
                "Shorten window_seconds, or add longer episodes."
            )
        self.lanes = lanes
        self.shuffle_samples = shuffle_samples
        self.seed = seed
        self._counts = np.asarray(counts, np.int64)
        self._episodes_by_shard = np.split(np.arange(len(counts)), np.flatnonzero(np.diff(shards)) + 1)
        self._epoch = lru_cache(maxsize=4)(self._lay_out)

    def __reduce__(self) -> tuple[Any, ...]:
        shards = np.repeat(np.arange(len(self._episodes_by_shard)), [len(rows) for rows in self._episodes_by_shard])
        settings = {"lanes": self.lanes, "shuffle_samples": self.shuffle_samples, "seed": self.seed}
        return _rebuild, (self._counts, shards, settings)

    def sample_at(self, counter: int) -> tuple[int, int]:
        """Episode and timestep of one sample."""
        position, lane = divmod(counter, self.lanes)
        block = self.block_at(lane, position)
        offset = position - block.first
        return int(block.episodes[offset]), int(block.timesteps[offset])

    def block_at(self, lane: int, position: int) -> Block:
        """The block that holds a lane's ``position``-th sample since the start of the run."""
        number = (position * self.lanes + lane) // self.samples_per_epoch
        epoch = self._epoch(number)
        segment = int(epoch.lane_starts[lane + 1] - epoch.lane_starts[lane])
        first = int(epoch.lane_first[lane])
        begin, end, index = self._block_bounds(position - first, segment, self._phase(epoch, lane))
        sequence = (
            epoch.lane_starts[lane] + begin + self._random(_BLOCK_STREAM, number, lane, index).permutation(end - begin)
        )
        return Block(first + begin, *epoch.samples(sequence))

    def run_at(self, lane: int, position: int, count: int) -> Block:
        """Consecutive samples of a lane in the order they are stored, whatever blocks and epochs they belong to."""
        parts = []
        end = position + count
        place = position
        while place < end:
            epoch = self._epoch((place * self.lanes + lane) // self.samples_per_epoch)
            begin = place - int(epoch.lane_first[lane])
            stop = min(end - int(epoch.lane_first[lane]), int(epoch.lane_starts[lane + 1] - epoch.lane_starts[lane]))
            parts.append(epoch.samples(epoch.lane_starts[lane] + np.arange(begin, stop)))
            place += stop - begin
        if not parts:
            return Block(position, np.empty(0, np.int64), np.empty(0, np.int64))
        return Block(position, *(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _block_bounds(self, offset: int, segment: int, phase: int) -> tuple[int, int, int]:
        """Begin and end inside the lane's segment, and number, of the block around ``offset``."""
        if segment <= self.shuffle_samples:
            return 0, segment, 0
        index = (offset + phase) // self.shuffle_samples
        begin = index * self.shuffle_samples - phase
        return max(begin, 0), min(begin + self.shuffle_samples, segment), index

    def _phase(self, epoch: _Epoch, lane: int) -> int:
        return (epoch.phase + lane * self.shuffle_samples // self.lanes) % self.shuffle_samples

    def _lay_out(self, number: int) -> _Epoch:
        shuffled = self._random(_SHARD_STREAM, number).permutation(len(self._episodes_by_shard))
        episodes = np.concatenate([self._episodes_by_shard[shard] for shard in shuffled])
        starts = np.concatenate([[0], np.cumsum(self._counts[episodes])])
        # Lane l holds the counters l, l + L, l + 2L, …: it has drawn ceil((c - l) / L) of them before counter c.
        lanes = np.arange(self.lanes)
        first = -((lanes - number * self.samples_per_epoch) // self.lanes)
        following = -((lanes - (number + 1) * self.samples_per_epoch) // self.lanes)
        return _Epoch(
            episodes=episodes,
            starts=starts,
            lane_starts=np.concatenate([[0], np.cumsum(following - first)]),
            lane_first=first,
            phase=int(self._random(_PHASE_STREAM, number).integers(self.shuffle_samples)),
        )

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])


def _rebuild(counts: np.ndarray, shards: np.ndarray, settings: dict[str, int]) -> SampleOrder:
    return SampleOrder(counts, shards, **settings)


def own_lanes(lanes: int, *, batch_size: int, rank: int, world_size: int, worker: int = 0, workers: int = 1) -> range:
    """The lanes that one worker of one rank reads.

    A global batch in lane order is the concatenation of the workers' parts in rank and worker order, so it
    holds the same samples in the same order for every number of ranks and workers. Raises ConfigError when
    the lanes cannot be shared evenly.
    """
    if batch_size % lanes:
        below = batch_size // lanes * lanes
        sizes = " or ".join(str(size) for size in (below, below + lanes) if size)
        divisors = [divisor for divisor in range(1, batch_size + 1) if batch_size % divisor == 0]
        nearest = min(divisors, key=lambda divisor: abs(divisor - lanes))
        raise ConfigError(
            f"batch_size={batch_size} is not a multiple of lanes={lanes}, so lanes would drift apart. "
            f"Set batch_size={sizes}, or lanes={nearest}."
        )
    readers = world_size * workers
    if lanes % readers:
        raise ConfigError(
            f"lanes={lanes} cannot be shared by {world_size} ranks with {workers} workers each. "
            f"Set lanes={-(-lanes // readers) * readers}, or fewer workers."
        )
    share = lanes // readers
    first = (rank * workers + worker) * share
    return range(first, first + share)
