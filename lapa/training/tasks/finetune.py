"""Finetuning the vision-language-action model on a few episodes with actions."""

import logging
from collections.abc import Sequence

from torch import Tensor

from lapa.models.vla.spec import VlaSpec
from lapa.training.engine import Engine
from lapa.training.tasks.actions import ActionTask
from lapa.types.batches import Batch

logger = logging.getLogger(__name__)


class FinetuneTask(ActionTask):
    """Implements `lapa.training.task.Task`. `latent_loss_weight` keeps the latent objective alive."""

    def __init__(self, spec: VlaSpec, *, latent_loss_weight: float = 0.0) -> None:
        super().__init__(spec)
        self.latent_loss_weight = latent_loss_weight
        self._has_warned = False

    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        """The latent loss is a mean over labelled samples of its own micro batch: it keeps the batch's order."""
        return None if self.latent_loss_weight else super().lengths(engine, batch)

    def losses(self, engine: Engine, batch: Batch) -> dict[str, Tensor]:
        results = super().losses(engine, batch)
        if self.latent_loss_weight and "latent" in results:
            return results | {"total": results["total"] + self.latent_loss_weight * results["latent"]}
        if self.latent_loss_weight and not self._has_warned:
            logger.warning("event=setting-ignored latent_loss_weight=%g reason=no-labels", self.latent_loss_weight)
            self._has_warned = True
        return results
