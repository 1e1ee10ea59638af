"""The ranks of one launch, and the few messages they exchange outside gradients."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=30)
"""A collective that waits longer ends the run: a rank is gone. Covers the upload of a checkpoint."""


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

    def __init__(self, launch: Launch) -> None:
        self.rank = launch.rank
        self.world_size = launch.world_size
        needs_own_group = launch.world_size > 1 and dist.get_backend() != "gloo"
        self._host = dist.new_group(backend="gloo", timeout=TIMEOUT) if needs_own_group else None

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

    def sum_of(self, number: float) -> float:
        """Sum over ranks."""
        if self.world_size == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(total, group=self._host)
        return float(total)

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
