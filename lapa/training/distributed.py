"""The ranks of one launch, and the few messages they exchange outside gradients."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=30)
"""A collective that waits longer ends the run: a rank is gone. Covers rank 0's checkpoint upload."""
SHARED_WORK_TIMEOUT = timedelta(days=7)
"""The same where work is shared out: the first rank to end waits for the last, and a launcher ends them all when
one is gone."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What torchrun says about this process; one rank of one when it was started by hand."""

    rank: int
    local_rank: int
    world_size: int

    @classmethod
    def from_environment(cls) -> "Launch":
        return cls(
            rank=int(os.environ.get("RANK", "0")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            world_size=int(os.environ.get("WORLD_SIZE", "1")),
        )


class Ranks:
    """Messages between ranks; with one rank every call returns its input.

    Host messages travel over gloo, so agreeing on a decision never waits for the accelerator.
    """

    def __init__(self, launch: Launch, *, timeout: timedelta = TIMEOUT) -> None:
        self.rank = launch.rank
        self.world_size = launch.world_size
        needs_own_group = launch.world_size > 1 and (dist.get_backend() != "gloo" or timeout != TIMEOUT)
        self._host = dist.new_group(backend="gloo", timeout=timeout) if needs_own_group else None

    def reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, on the device the values are on."""
        if self.world_size == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def broadcast(self, values: Tensor) -> Tensor:
        """Rank 0's values; every rank passes a tensor of the same shape and type."""
        if self.world_size == 1:
            return values
        received = values.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(received, src=0)
        return received

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag is true where it is true on any rank."""
        if self.world_size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._host)
        return tuple(bool(vote) for vote in votes.tolist())

    def broadcast_text(self, text: str) -> str:
        """Rank 0's text."""
        if self.world_size == 1:
            return text
        data = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
        size = torch.tensor([len(text.encode()), data.numel()])
        dist.broadcast(size, src=0, group=self._host)
        num_bytes, num_sent = size.tolist()
        if self.rank:
            data = torch.empty(num_sent, dtype=torch.uint8)
        dist.broadcast(data, src=0, group=self._host)
        return bytes(data[:num_bytes].tolist()).decode()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """The ranks of a launch that only exchange host messages: work that is shared out, not trained."""
    launch = Launch.from_environment()
    joined = launch.world_size > 1 and not dist.is_initialized()
    if joined:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield Ranks(launch, timeout=SHARED_WORK_TIMEOUT)
    finally:
        if joined:
            dist.destroy_process_group()
