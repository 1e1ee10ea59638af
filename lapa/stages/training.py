"""How the three training stages wire the loop: engine, stream, checkpoints, hooks, and the final model."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import nn

from lapa import files
from lapa.config.data import StreamConfig
from lapa.config.training import FitConfig
from lapa.data.dataset import Dataset
from lapa.data.stream import SampleSpec, training_batches, validation_batches
from lapa.models.storage import model_digest
from lapa.stages.context import Stage
from lapa.stages.results import Artifact
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import build_engine
from lapa.training.fit import FitResult, fit
from lapa.training.hooks import Hook, MetricsHook, ProgressHook
from lapa.training.task import Task
from lapa.types.batches import Batch


def train(
    stage: Stage,
    *,
    build_model: Callable[[], nn.Module],
    task: Task,
    dataset: Dataset,
    spec: SampleSpec,
    stream: StreamConfig,
    config: FitConfig,
) -> tuple[FitResult, Artifact]:
    """Train to the end, resuming from the stage's own checkpoint, and leave the model in `model/`."""
    run = stage.run
    engine = build_engine(build_model, run.engine, config, seed=run.seed)
    try:

        def batches(start_step: int) -> Iterator[Batch]:
            return training_batches(
                dataset,
                spec,
                stream,
                batch_size=config.batch_size,
                seed=run.seed,
                start_step=start_step,
                rank=engine.rank,
                world_size=engine.world_size,
            )

        def held_out() -> Iterable[Batch]:
            return validation_batches(
                dataset,
                spec,
                stream,
                batch_size=config.batch_size,
                rank=engine.rank,
                world_size=engine.world_size,
                max_batches=config.validation_batches,
            )

        checkpoints = Checkpoints(
            files.join(stage.folder, "checkpoints"),
            keep=config.keep_checkpoints,
            resolved_run=run.model_dump(mode="json"),
        )
        result = fit(task, engine, batches, held_out, config, checkpoints, _hooks(stage), seed=run.seed)
        return result, _keep_model(stage, checkpoints)
    finally:
        engine.close()


def _keep_model(stage: Stage, checkpoints: Checkpoints) -> Artifact:
    """Copy the last checkpoint's model to where later stages look for it."""
    url = files.join(stage.folder, "model")
    if not stage.is_main:
        return Artifact(url=url, digest="")
    last = checkpoints.latest()
    assert last is not None, "fit ends with a checkpoint"
    with tempfile.TemporaryDirectory(prefix="lapa-model-") as scratch:
        model = files.local_copy(files.join(last, "model"), Path(scratch))
        files.upload(model, url, last="config.json")
    return Artifact(url=url, digest=model_digest(url))


def _hooks(stage: Stage) -> list[Hook]:
    metrics = MetricsHook(stage.tracker)  # other ranks' trackers keep nothing
    return [metrics, ProgressHook(stage.name)] if stage.is_main else [metrics]
