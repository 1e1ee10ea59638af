"""What the trainings of the vision-language-action model have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lapa.models.vla.model import VisionLanguageAction
from lapa.models.vla.storage import save_vla
from lapa.training.engine import Engine
from lapa.types.batches import Batch


class VlaTask:
    """The part of `lapa.training.task.Task` that only keeps and saves the model: training it changes nothing else."""

    def __init__(self) -> None:
        self._model: VisionLanguageAction | None = None

    def before_update(self, engine: Engine, pieces: Sequence[Batch]) -> None:
        """Nothing to prepare."""

    def after_update(self, engine: Engine) -> dict[str, float]:
        return {}

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        assert self._model is not None, "a task saves only after it has trained or validated"
        save_vla(folder, self._model, state)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The model is all there is."""

    def should_stop(self, metrics: Mapping[str, float]) -> str | None:
        return None

    def _look_at(self, engine: Engine) -> None:
        """Remember the model: saving needs its processor beside the weights."""
        assert isinstance(engine.model, VisionLanguageAction)
        self._model = engine.model
