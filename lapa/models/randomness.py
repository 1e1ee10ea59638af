"""Random numbers that belong to the samples of a global batch, not to the rank or the micro batch that holds them.

A model draws with `sample_normal` and `sample_uniform`. While it trains, the loop says where its samples lie in the
global batch: every rank and every micro batch then draws the same numbers for the whole global batch, and keeps the
rows of its own samples. So one seed gives one noise per sample, however samples are shared out over ranks and micro
batches, and a run goes on alike at another number of ranks. It costs little: noise has the width of a code or of an
action chunk, not that of a network's layers.

What draws from torch's default generator (dropout in a backbone's adapters) follows the number of its micro batch,
counted over all ranks: it goes on alike after a restart, and where micro batches are cut in the batch's own order also
at another number of ranks, as long as `fit.micro_batch_size` does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor


class SampleDraws:
    """Numbers for the samples at some places of a global batch of `total`."""

    def __init__(self, seed: int, *, places: Sequence[int], total: int) -> None:
        self.total = total
        self._rows = torch.tensor(places, dtype=torch.int64)
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]

    def whole(self, shape: Sequence[int], axis: int) -> list[int]:
        """The shape that the numbers of all samples have."""
        return [self.total if place == axis else size for place, size in enumerate(shape)]

    def own(self, drawn: Tensor, axis: int) -> Tensor:
        """What belongs to the samples here, of numbers that were drawn for all."""
        return drawn.index_select(axis, self._rows.to(drawn.device, non_blocking=True))


_draws: ContextVar[SampleDraws | None] = ContextVar("sample_draws", default=None)


@contextmanager
def drawing_for_samples(seed: int, *, places: Sequence[int], total: int) -> Iterator[None]:
    """Inside, a batch given to a model holds the samples at `places` of a global batch of `total`, in that order."""
    token = _draws.set(SampleDraws(seed, places=places, total=total))
    try:
        yield
    finally:
        _draws.reset(token)


def sample_normal(shape: Sequence[int], *, device: torch.device, axis: int = 0) -> Tensor:
    """Standard normal numbers of this shape; `axis` counts samples. From torch's default generator where nobody
    said which samples they are."""
    draws = _draws.get()
    if draws is None:
        return torch.randn(*shape, device=device)
    drawn = torch.randn(draws.whole(shape, axis), generator=draws.generator(device), device=device)
    return draws.own(drawn, axis)


def sample_uniform(shape: Sequence[int], *, device: torch.device, axis: int = 0) -> Tensor:
    """The same, uniform in [0, 1)."""
    draws = _draws.get()
    if draws is None:
        return torch.rand(*shape, device=device)
    drawn = torch.rand(draws.whole(shape, axis), generator=draws.generator(device), device=device)
    return draws.own(drawn, axis)
