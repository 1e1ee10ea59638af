"""What the trainings of the vision-language-action model have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
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
        self._backbone_files: TemporaryDirectory[str] | None = None

    def before_update(self, engine: Engine, pieces: Sequence[Batch]) -> None:
        """Nothing to prepare."""

    def weigh(self, batch: Batch) -> float | None:
        return None

    def lengths(self, engine: Engine, batch: Batch) -> Sequence[int] | None:
        """Of prompts, where the backbone pads them."""
        return self._look_at(engine).backbone.lengths(batch.instructions)

    def after_update(self, engine: Engine) -> dict[str, float]:
        return {}

    def prepare_save(self) -> None:
        """Write the backbone's own files once: a tokenizer must not be asked from two threads."""
        assert self._model is not None, "a task saves only after it has trained or validated"
        if self._backbone_files is None:
            self._backbone_files = TemporaryDirectory(prefix="lapa-backbone-")
            self._model.backbone.save_files(Path(self._backbone_files.name) / "files")

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        assert self._model is not None and self._backbone_files is not None, "prepare_save comes first"
        save_vla(folder, self._model, state, backbone_files=Path(self._backbone_files.name) / "files")

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The model is all there is."""

    def should_stop(self, metrics: Mapping[str, float]) -> str | None:
        return None

    def _look_at(self, engine: Engine) -> VisionLanguageAction:
        """Remember the model: saving needs its processor beside the weights."""
        assert isinstance(engine.model, VisionLanguageAction)
        self._model = engine.model
        return self._model
