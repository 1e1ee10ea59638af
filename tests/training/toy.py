"""A tiny model, task and stream that use everything an engine must handle."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from lapa.config.training import FitConfig, OptimizerConfig
from lapa.files import read_json
from lapa.models.randomness import sample_normal
from lapa.models.storage import save_model
from lapa.training.engine import Engine
from lapa.training.hooks import Hook, StepReport
from lapa.training.seeding import mix
from lapa.training.state_files import join_indices, write_parts
from lapa.types.batches import Batch

BATCH_SIZE = 8


class ToyModel(nn.Module):
    """Tied, frozen, never used and sometimes used parameters, a buffer, and noise."""

    def __init__(self, *, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = noise
        self.inner = nn.Linear(12, 24)
        self.frozen = nn.Linear(24, 24).requires_grad_(False)
        self.words = nn.Embedding(6, 24)
        self.head = nn.Linear(24, 6, bias=False)
        self.head.weight = self.words.weight
        self.sometimes = nn.Linear(24, 6)
        self.never = nn.Linear(3, 3)
        self.register_buffer("batches_seen", torch.zeros(2))

    def forward(self, batch: Batch) -> Tensor:
        pixels = batch.current.float().flatten(1) / 255
        hidden = torch.relu(self.inner(pixels) + self.words(batch.timestep % 6))
        hidden = hidden + self.frozen(hidden) + self.noise * sample_normal(hidden.shape, device=hidden.device)
        if self.training:
            self.batches_seen += 1
        logits = self.head(hidden)
        if int(batch.episode[0]) % 2 == 0:
            logits = logits + self.sometimes(hidden)
        return nn.functional.cross_entropy(logits.float(), batch.timestep // 6 % 6)

    def hidden(self, batch: Batch) -> Tensor:
        return self.inner(batch.current.float().flatten(1) / 255)


class ToyConfig(BaseModel):
    width: int = 24


class ToyTask:
    def __init__(self, stop_at: float | None = None) -> None:
        self.stop_at = stop_at

    def before_update(self, engine: Engine, pieces: Sequence[Batch]) -> None:
        """Nothing to prepare."""

    def weigh(self, batch: Batch) -> float | None:
        return None

    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        return None

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        loss = engine.run(batch)
        return {"total": loss, "doubled": loss * 2}

    def after_update(self, engine: Engine) -> dict[str, float]:
        return {}

    def validate(self, engine: Engine, batches: Iterable[Batch]) -> dict[str, float]:
        losses = torch.stack([engine.run(batch) for batch in batches])
        return {"loss": float(engine.reduce_mean(losses.mean())), "rank": float(engine.rank)}

    def prepare_save(self) -> None:
        """Nothing beside weights."""

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        save_model(folder, kind="vla", config=ToyConfig(), state=state)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing was kept."""

    def should_stop(self, metrics: Mapping[str, float]) -> str | None:
        return "loss is low" if self.stop_at is not None and metrics["loss"] < self.stop_at else None


class BreaksAt(ToyTask):
    """After some updates, the loss is no number, or its gradient alone is not: then the loss says nothing of it."""

    def __init__(self, updates: int, what: Literal["loss", "gradient"]) -> None:
        super().__init__()
        self.updates, self.what = updates, what

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        losses = super().losses(engine, batch)
        if engine.step != self.updates or engine.rank != engine.world_size - 1:
            return losses
        if self.what == "loss":
            return {name: loss * math.nan for name, loss in losses.items()}
        loss = losses["total"]
        return losses | {"total": loss + (loss - loss.detach()).sqrt()}  # the square root of 0, which rises infinitely


class Losses(Hook):
    """Keeps, and writes at once, what every step reported."""

    def __init__(self, path: Path | None = None, react: Callable[[StepReport], None] | None = None) -> None:
        self.path, self.react = path, react
        self.values: dict[int, float] = {}

    def after_step(self, report: StepReport) -> None:
        self.values[report.step] = report.losses["total"]
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps([report.step, report.losses["total"], report.gradient_norm]) + "\n")
        if self.react:
            self.react(report)


def write_state(engine: Engine, folder: Path) -> None:
    """What a checkpoint's threads do, at once, for one rank."""
    snapshot = engine.snapshot()
    for _ in write_parts(snapshot, folder):
        pass
    join_indices(str(folder), snapshot.header, 1, read_json)


def read_losses(path: Path) -> dict[int, float]:
    """Step -> loss; a step that ran twice counts with its last value."""
    return {step: loss for step, loss, _ in map(json.loads, path.read_text().splitlines())}


def global_batch(index: int, size: int = BATCH_SIZE) -> Batch:
    generator = torch.Generator().manual_seed(mix(3, index))
    return Batch(
        current=torch.randint(256, (size, 3, 2, 2), generator=generator, dtype=torch.uint8),
        instructions=("push",) * size,
        episode=torch.full((size,), index),
        timestep=torch.randint(100, (size,), generator=generator),
    )


def stream(rank: int = 0, world_size: int = 1) -> Callable[[int], Iterator[Batch]]:
    """Endless batches from a step on; a rank gets its share of each."""

    def from_step(step: int) -> Iterator[Batch]:
        while True:
            yield share(global_batch(step), rank, world_size)
            step += 1

    return from_step


def share(batch: Batch, rank: int, world_size: int) -> Batch:
    size = batch.size // world_size
    part = slice(rank * size, (rank + 1) * size)
    return Batch(
        current=batch.current[part],
        instructions=batch.instructions[part],
        episode=batch.episode[part],
        timestep=batch.timestep[part],
    )


def held_out() -> list[Batch]:
    return [global_batch(10_000 + number) for number in range(2)]


def fit_config(**changes: Any) -> FitConfig:
    """Every setting is one that a test changes or that makes each step visible."""
    settings: dict[str, Any] = {
        "steps": 8,
        "batch_size": BATCH_SIZE,
        "optimizer": OptimizerConfig(learning_rate=1e-2, clip_norm=0.5, weight_decay=0.1),
        "validate_every": 4,
        "checkpoint_every": 3,
        "checkpoint_seconds": None,
        "log_every": 1,
    }
    return FitConfig(**(settings | changes))
