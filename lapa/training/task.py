"""What differs between the stages that train."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from lapa.training.engine import Engine
from lapa.types.batches import Batch


class Task(Protocol):
    """One kind of training. Every method runs on every rank, but for `prepare_save` and `save`."""

    def before_update(self, engine: Engine, pieces: Sequence[Batch]) -> None:
        """Called before each optimizer update with this rank's whole share of its batch, as micro batches
        that are still on the host."""

    def weigh(self, batch: Batch) -> float | None:
        """How many things the loss of these samples is a mean over, read off the host's batch, so that every one
        of them weighs the same wherever it falls; None where every sample counts alike."""

    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        """How much each sample costs where a micro batch costs as much as its longest sample; None where all cost
        alike. Of the host's batch, and without a word to other ranks."""

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        """Scalars of one micro batch: `total` is minimized, all are logged (averaged over micro batches
        and ranks). Calls the model through `engine.run`."""

    def after_update(self, engine: Engine) -> dict[str, float]:
        """Called after each optimizer update, e.g. to revive unused codebook entries; returns numbers to log."""

    def validate(self, engine: Engine, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over held-out batches, reduced over ranks with `engine.reduce_*`. Gradients are off and
        the model is in eval mode; every rank gets the same number of batches."""

    def prepare_save(self) -> None:
        """Before `save`, while training waits: put aside what it needs of the model beside weights. Rank 0 only."""

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the model folder from a saved state. Rank 0 only, while training goes on: the model itself must
        not be looked at."""

    def state(self) -> dict[str, Any]:
        """What the task must remember besides the model, as plain JSON; checkpoints keep it. The same on
        every rank."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; empty when a checkpoint kept nothing."""

    def should_stop(self, metrics: Mapping[str, float]) -> str | None:
        """Why to stop early, judged from validation metrics, or None."""
