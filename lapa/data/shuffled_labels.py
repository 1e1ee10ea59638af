"""A control for pretraining: the right codes, as often as they occur, on the wrong timesteps."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from lapa.data.labels import Labels, LabelStamp


@dataclass(frozen=True, kw_only=True)
class ShuffledLabels:
    """Labels whose codes are permuted over all timesteps of the dataset; one seed gives one order.

    No observation tells anything about its code, so what pretraining still gains comes from how often each code
    occurs. Holds all codes in memory: 4 bytes a timestep at 4 codes.
    """

    labels: Labels
    num_episodes: int
    seed: int

    @property
    def url(self) -> str:
        return self.labels.url

    @property
    def stamp(self) -> LabelStamp:
        return self.labels.stamp

    def codes_of(self, row: int) -> Int64[np.ndarray, "t n"]:
        """As many as the episode has of its own, drawn from all episodes."""
        return self._permuted[row].astype(np.int64)

    @cached_property
    def _permuted(self) -> list[np.ndarray]:
        smallest = np.int8 if self.stamp.codebook_size <= 128 else np.int16
        episodes = [self.labels.codes_of(row).astype(smallest) for row in range(self.num_episodes)]
        together = np.concatenate(episodes)
        order = np.random.default_rng(self.seed).permutation(len(together))
        return np.split(together[order], np.cumsum([len(codes) for codes in episodes])[:-1])
