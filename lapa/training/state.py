"""What both engines share: the training state as names and tensors, copied to the host and put back.

Every rank copies its own part (see state_files.py); on the way back a tensor passes through rank 0, one at a time.
No rank ever holds the whole model for it.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapa.config.training import FitConfig
from lapa.errors import CheckpointMismatch, ConfigError
from lapa.training.distributed import Ranks
from lapa.training.schedules import learning_rate_share
from lapa.training.state_files import Part, Snapshot, StateReader

MOMENTS = ("exp_avg", "exp_avg_sq")


class StatefulEngine(ABC):
    """What both engines share; an engine says how one whole tensor is read and written.

    Every trainable parameter takes part in every update, with a gradient of zero where it has none, so
    one step number describes all moments whatever the engine.
    """

    model: nn.Module
    device: torch.device

    def __init__(self, fit: FitConfig, ranks: Ranks) -> None:
        self.fit, self.ranks = fit, ranks
        self.rank, self.world_size = ranks.rank, ranks.world_size
        self.step = 0
        if fit.batch_size % ranks.world_size:
            raise ConfigError(
                f"batch_size={fit.batch_size} is not divisible by the {ranks.world_size} ranks of this launch. "
                f"Set fit.batch_size to a multiple of {ranks.world_size}, or change the number of ranks."
            )

    @abstractmethod
    def read(self, kind: str, name: str) -> Tensor:
        """One whole tensor, as a copy on the device, on every rank. Collective."""

    @abstractmethod
    def write(self, kind: str, name: str, value: Tensor) -> None:
        """Replace one whole tensor; every rank passes the same value. Collective."""

    @abstractmethod
    def set_step(self, step: int) -> None:
        """Number of updates that the optimizer believes it has done."""

    def learning_rate(self) -> float:
        """Of the last update; of the first one before it."""
        share = learning_rate_share(self.fit.schedule, max(0, self.step - 1), steps=self.fit.steps)
        return self.fit.optimizer.learning_rate * share

    def next_learning_rate(self) -> float:
        share = learning_rate_share(self.fit.schedule, self.step, steps=self.fit.steps)
        return self.fit.optimizer.learning_rate * share

    def reduce_sum(self, values: Tensor) -> Tensor:
        return self.ranks.reduce_sum(values.to(self.device))

    def reduce_mean(self, values: Tensor) -> Tensor:
        return self.reduce_sum(values) / self.world_size

    def gather_rows(self, values: Tensor) -> Tensor:
        whole = values.new_zeros(self.world_size, *values.shape)
        whole[self.rank] = values  # all others add nothing to it
        return self.reduce_sum(whole).flatten(0, 1)

    def broadcast(self, values: Tensor) -> Tensor:
        return self.ranks.broadcast(values.to(self.device))

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        return self.ranks.any_of(*flags)

    def sum_of(self, number: float) -> float:
        return self.ranks.sum_of(number)

    def broadcast_text(self, text: str) -> str:
        return self.ranks.broadcast_text(text)

    def overwrite_rows(self, parameter: nn.Parameter, rows: Tensor, values: Tensor) -> None:
        name = self._name_of(parameter)
        rows = rows.to(self.device)
        weights = self.read("weights", name)
        weights[rows] = values.detach().to(weights)
        self.write("weights", name, weights)
        for moment in MOMENTS if parameter.requires_grad else ():
            values = self.read(moment, name)
            values[rows] = 0
            self.write(moment, name, values)

    def gathered(self, parameter: nn.Parameter) -> Tensor:
        return self.read("weights", self._name_of(parameter))

    def full_state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        first_names = self._parameters()
        for alias, parameter in self.model.named_parameters(remove_duplicate=False):
            name = first_names[id(parameter)][0]
            if alias != name:
                state |= {alias: state[name]} if name in state else {}
                continue
            value = self.read("weights", name)
            state |= {alias: value.cpu()} if self.rank == 0 else {}
        for name in self._buffers():
            value = self.read("buffers", name)
            state |= {name: value.cpu()} if self.rank == 0 else {}
        return state

    def snapshot(self) -> Snapshot:
        shapes = self._shapes()
        copied = [0] * self.world_size
        parts: list[Part] = []
        for kind, name in self._tensors():
            # Whole tensors go to whoever copied least; every rank comes to the same answer. Buffers are rank 0's.
            keeper = 0 if kind == "buffers" else copied.index(min(copied))
            copied[keeper] += shapes[name].numel() if name in shapes else 0
            if part := self.own_part(kind, name, is_keeper=keeper == self.rank):
                parts.append(Part(key=f"{kind}/{name}", start=part[0], values=part[1]))
        return Snapshot(rank=self.rank, world_size=self.world_size, header=self._header(), parts=parts)

    def own_part(self, kind: str, name: str, *, is_keeper: bool) -> tuple[int, Tensor] | None:
        """What this rank saves of one tensor, on the host, and where it begins. A tensor that is not in parts is
        its keeper's. Collective."""
        value = self.read(kind, name)
        return (0, value.flatten().cpu()) if is_keeper and value.numel() else None

    def _header(self) -> dict[str, Any]:
        own = self._parameters()
        names = self.model.named_parameters(remove_duplicate=False)
        return {
            "step": self.step,
            "optimizer": "adamw",
            "parameters": {name: list(shape) for name, shape in self._shapes().items()},
            "buffers": {name: list(self.model.get_buffer(name).shape) for name in self._buffers()},
            "tied": {alias: first for alias, parameter in names if alias != (first := own[id(parameter)][0])},
        }

    def load_training_state(self, folder: Path) -> None:
        reader = StateReader(str(folder)) if self.rank == 0 else None
        header = json.loads(self.broadcast_text(json.dumps(_without_places(reader.header)) if reader else ""))
        self._check(header, str(folder))
        saved = set(header["parts"])
        for kind, name in self._tensors():
            key = f"{kind}/{name}"
            if key not in saved and kind == "average":
                key = f"weights/{name}"  # the average starts now
            empty = self._empty(kind, name)
            if key not in saved:
                continue  # e.g. moments of a parameter that was frozen until now
            value = reader.read(key).to(empty) if reader else empty
            self.write(kind, name, self.broadcast(value))
        self.step = header["step"]
        self.set_step(self.step)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        if self.fit.ema_decay is None:
            yield
            return
        self._swap_average()
        try:
            yield
        finally:
            self._swap_average()

    def _average_pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's part of (weights, average) of each trainable parameter."""
        raise NotImplementedError

    def _swap_average(self) -> None:
        with torch.no_grad():
            for weights, average in self._average_pairs():
                kept = weights.clone()
                weights.copy_(average)
                average.copy_(kept)

    def _update_average(self) -> None:
        if self.fit.ema_decay is None:
            return
        # The first updates weigh more, so that the random start is forgotten.
        decay = min(self.fit.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for weights, average in self._average_pairs():
                average.lerp_(weights, 1 - decay)

    def _parameters(self) -> dict[int, tuple[str, nn.Parameter]]:
        """Parameters by identity, under the first of their names: a tied parameter is one parameter."""
        return {id(parameter): (name, parameter) for name, parameter in self.model.named_parameters()}

    def _name_of(self, parameter: nn.Parameter) -> str:
        return self._parameters()[id(parameter)][0]

    def _shapes(self) -> dict[str, torch.Size]:
        return {name: getattr(p, "ds_shape", p.shape) for name, p in self._parameters().values()}

    def _buffers(self) -> list[str]:
        """Persistent buffers."""
        parameters = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        return [n for n, v in self.model.state_dict().items() if n not in parameters and isinstance(v, Tensor)]

    def _tensors(self) -> list[tuple[str, str]]:
        """Everything the training state holds, in one order on every rank."""
        everything = [("weights", name) for name in self._shapes()]
        trainable = [name for name, parameter in self._parameters().values() if parameter.requires_grad]
        kinds = MOMENTS if self.fit.ema_decay is None else (*MOMENTS, "average")
        everything += [(kind, name) for name in trainable for kind in kinds]
        return everything + [("buffers", name) for name in self._buffers()]

    def _empty(self, kind: str, name: str) -> Tensor:
        if kind == "buffers":
            return torch.empty_like(self.model.get_buffer(name))
        return torch.empty(self._shapes()[name], dtype=torch.float32, device=self.device)

    def _check(self, header: dict[str, Any], where: str) -> None:
        """CheckpointMismatch, on every rank, when the saved parameters are not this model's."""
        wanted = {name: list(shape) for name, shape in self._shapes().items()}
        saved = header["parameters"]
        for name in sorted(wanted.keys() | saved.keys()):
            if wanted.get(name) != saved.get(name):
                raise CheckpointMismatch(
                    f"{where} holds {name} as {saved.get(name, 'absent')}, the run asks for "
                    f"{wanted.get(name, 'none')}. Set the model's settings back to those of the checkpoint, or "
                    "start the stage afresh: lapactl run … --force STAGE."
                )


def _without_places(header: dict[str, Any]) -> dict[str, Any]:
    """Which tensors there are, for the ranks that do not read them."""
    return header | {"parts": sorted(header["parts"])}
