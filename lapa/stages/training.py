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
from lapa.training.engine import Engine, build_engine
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

        result = fit(
            task,
            engine,
            batches,
            held_out,
            config,
            Checkpoints(
                files.join(stage.folder, "checkpoints"),
                keep=config.keep_checkpoints,
                resolved_run=run.model_dump(mode="json"),
            ),
            _hooks(stage),
            seed=run.seed,
        )
        return result, export_model(stage, engine, task)
    finally:
        engine.close()


def export_model(stage: Stage, engine: Engine, task: Task) -> Artifact:
    """Write the trained model (its moving average, where one is kept) to the stage's folder."""
    url = files.join(stage.folder, "model")
    with engine.averaged_weights():
        state = engine.full_state()
    if not stage.is_main:
        return Artifact(url=url, digest="")
    with tempfile.TemporaryDirectory(prefix="lapa-model-") as scratch:
        task.save(Path(scratch), state)
        files.upload(Path(scratch), url, last="config.json")
    return Artifact(url=url, digest=model_digest(url))


def _hooks(stage: Stage) -> list[Hook]:
    return [MetricsHook(stage.tracker), ProgressHook(stage.progress)]
