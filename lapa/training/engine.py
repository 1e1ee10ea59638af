"""What the loop and the tasks ask of an engine: plain torch in one process, or DeepSpeed over many ranks."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, assert_never

import torch
from torch import Tensor, nn

from lapa.config.training import DeepSpeedEngineConfig, EngineConfig, FitConfig, TorchEngineConfig
from lapa.training.deepspeed_engine import DeepSpeedEngine
from lapa.training.state_files import Snapshot
from lapa.training.torch_engine import TorchEngine


class Engine(Protocol):
    """Owns the model, its optimizer and the ranks. Methods marked *collective* run on every rank."""

    model: nn.Module
    """The bare model; call it through `run` while training."""
    device: torch.device
    step: int
    """Optimizer updates done so far."""
    rank: int
    world_size: int

    def run(self, *inputs: Any, method: str = "forward") -> Any:
        """The model's output in the run's precision. Calling another method of the model this way keeps
        partitioned parameters whole while it runs, e.g. `run(pair, method="encode")`. Collective."""

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        """Add the loss's gradients; `last` marks the last micro batch before `update`. Collective."""

    def update(self) -> float | Tensor:
        """Clip, set the learning rate, step the optimizer; returns the gradient norm before clipping
        (on the device: `float()` of it waits for the device). Collective."""

    def learning_rate(self) -> float:
        """Learning rate of the last update; of the first one before it."""

    def overwrite_rows(self, parameter: nn.Parameter, rows: Tensor, values: Tensor) -> None:
        """Replace rows of a parameter and forget their optimizer moments. `rows` int64 r, `values` r ...;
        the same on every rank. Collective."""

    def gathered(self, parameter: nn.Parameter) -> Tensor:
        """A full fp32 copy of one parameter, on the device, without gradient. Collective."""

    def full_state(self) -> dict[str, Tensor]:
        """All weights (averaged ones inside `averaged_weights`) and rank 0's buffers on the CPU of rank 0;
        empty on other ranks. Collective."""

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Inside, the model holds its moving average; nothing changes without `ema_decay`. Collective."""

    def reduce_mean(self, values: Tensor) -> Tensor:
        """Mean over ranks. Collective."""

    def reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over ranks. Collective."""

    def gather_rows(self, values: Tensor) -> Tensor:
        """The rows of all ranks one after the other, in the order of the global batch. Collective."""

    def broadcast(self, values: Tensor) -> Tensor:
        """Rank 0's values, on every rank. Collective."""

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag is true where it is true on any rank; never waits for the device. Collective."""

    def sum_of(self, number: float) -> float:
        """Sum over ranks of a number on the host; never waits for the device. Collective."""

    def broadcast_text(self, text: str) -> str:
        """Rank 0's text, on every rank. Collective."""

    def snapshot(self) -> Snapshot:
        """A copy on the host of this rank's part of the training state: weights, optimizer moments, buffers,
        average and step. Written to files, it is readable by any engine at any world size. Collective."""

    def load_training_state(self, folder: Path) -> None:
        """Continue from the snapshots of all ranks in a folder, which only rank 0 reads. Collective."""

    def close(self) -> None:
        """Leave the process group, if one was joined."""


def build_engine(
    build_model: Callable[[], nn.Module], config: EngineConfig, fit: FitConfig, *, seed: int
) -> TorchEngine | DeepSpeedEngine:
    """Seed, build the model where the engine wants it, and wrap it with its optimizer."""
    match config:
        case TorchEngineConfig():
            return TorchEngine(build_model, config, fit, seed=seed)
        case DeepSpeedEngineConfig():
            return DeepSpeedEngine(build_model, config, fit, seed=seed)
        case _:
            assert_never(config)
