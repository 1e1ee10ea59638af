"""What the torch engine and the ranks of `check_partitioned.py` do alike."""

from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from lapa.config.training import FitConfig, OptimizerConfig
from lapa.config.vla import BinnedHead
from lapa.models.vla.spec import VlaSpec
from lapa.training.engine import Engine
from lapa.types.batches import Batch
from tests.models.vla.models import some_batch, two_dims_and_a_gripper

STEPS = 3
BATCH = some_batch(4, horizon=1)
FIT = FitConfig(steps=STEPS, batch_size=4, optimizer=OptimizerConfig(learning_rate=2e-3))


def train(engine: Engine, batch: Batch) -> list[float]:
    """Losses over all ranks, one per update."""
    losses = []
    for _ in range(STEPS):
        results = engine.run(batch)
        loss = sum(value for name, value in results.items() if "/" not in name)
        engine.backward(loss)
        engine.update()
        losses.append(float(engine.reduce_mean(loss.detach())))
    return losses


def finetuning(spec: VlaSpec) -> VlaSpec:
    """The spec of a model with an action head beside the latent one."""
    head = BinnedHead(bins=16, horizon=1)
    return spec.model_copy(update={"head": head, "actions": two_dims_and_a_gripper()})


def split(batch: Batch, rank: int, world_size: int) -> Batch:
    """One rank's samples."""

    def mine(value: Any) -> Any:
        return value[rank::world_size] if isinstance(value, Tensor | tuple) else value

    return replace(batch, **{field.name: mine(getattr(batch, field.name)) for field in fields(batch)})
