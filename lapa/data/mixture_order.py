"""The order of a mixture's samples: a pure function of seed and sample counter, as for a single dataset.

Every member has an order of its own (`lapa/data/order.py`), which goes on through that member's epochs for ever. A
lane of the mixture reads the same lane of all members. Of its first p samples, how many came from each member is a
function of p and the shares alone; so a block of consecutive samples knows which run of every member's lane it holds.
Those are shuffled together. A member is never further from its share than one sample per member, at any block's end.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from lapa.data.order import Block, SampleOrder
from lapa.errors import DataError

_MIXTURE_STREAM = 3
"""Apart from the streams of random numbers that members use."""


class MixtureOrder:
    """Which sample stands at which counter, like `SampleOrder`.

    counts, shards, members: samples, shard and member of each episode, e episodes in the order of the members; shares:
    one per member, of all samples. Raises DataError naming a member (of `names`) that has no sample.
    """

    def __init__(
        self,
        counts: Int64[np.ndarray, " e"],
        shards: Int64[np.ndarray, " e"],
        members: Int64[np.ndarray, " e"],
        *,
        shares: Sequence[float],
        names: Sequence[str],
        lanes: int,
        shuffle_samples: int,
        seed: int,
    ) -> None:
        self.lanes, self.shuffle_samples, self.seed = lanes, shuffle_samples, seed
        self.samples_per_epoch = int(np.sum(counts))
        self._given = (counts, shards, members), {"shares": tuple(shares), "names": tuple(names)}
        self._firsts = np.searchsorted(members, np.arange(len(shares)))
        self._orders = []
        for place, name in enumerate(names):
            mine = members == place
            if not counts[mine].sum():
                raise DataError(
                    f"dataset '{name}' of the mixture has no episode to train on that is longer than its window. "
                    "Shorten its window_seconds, add longer episodes, or take it out of the mixture."
                )
            # A seed of its own: members of equal shape would otherwise be permuted alike.
            own = int(np.random.default_rng([seed, _MIXTURE_STREAM, place]).integers(2**31))
            self._orders.append(
                SampleOrder(counts[mine], shards[mine], lanes=lanes, shuffle_samples=shuffle_samples, seed=own)
            )
        tails = np.cumsum(np.asarray(shares)[::-1])[::-1]
        self._splits = [float(share / tail) for share, tail in zip(shares, tails, strict=True)]

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {"lanes": self.lanes, "shuffle_samples": self.shuffle_samples, "seed": self.seed}
        arrays, members = self._given
        return _rebuild, (arrays, members | settings)

    def sample_at(self, counter: int) -> tuple[int, int]:
        """Episode and number of one sample."""
        position, lane = divmod(counter, self.lanes)
        block = self.block_at(lane, position)
        return int(block.episodes[position - block.first]), int(block.timesteps[position - block.first])

    def block_at(self, lane: int, position: int) -> Block:
        """The block that holds a lane's ``position``-th sample since the start of the run."""
        # Shifted from lane to lane, which keeps them from needing their next block all at once.
        phase = lane * self.shuffle_samples // self.lanes
        index = (position + phase) // self.shuffle_samples
        begin = max(index * self.shuffle_samples - phase, 0)
        end = (index + 1) * self.shuffle_samples - phase
        runs = [
            (order.run_at(lane, first, last - first), start)
            for order, start, first, last in zip(
                self._orders, self._firsts, self._drawn(begin), self._drawn(end), strict=True
            )
        ]
        mixed = np.random.default_rng([self.seed, _MIXTURE_STREAM, len(self._orders), lane, index])
        shuffled = mixed.permutation(end - begin)
        return Block(
            begin,
            np.concatenate([run.episodes + start for run, start in runs])[shuffled],
            np.concatenate([run.timesteps for run, _ in runs])[shuffled],
        )

    def _drawn(self, position: int) -> list[int]:
        """How many of a lane's first ``position`` samples come from each member."""
        drawn, rest = [], position
        # One member after the other takes its share of what the ones before it left: neither number ever falls.
        for split in self._splits[:-1]:
            mine = int(rest * split + 0.5)
            drawn.append(mine)
            rest -= mine
        return [*drawn, rest]


def _rebuild(arrays: tuple[Any, ...], settings: dict[str, Any]) -> MixtureOrder:
    return MixtureOrder(*arrays, **settings)
