"""How the three training stages wire the loop: engine, stream, checkpoints, hooks, and the final model."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lapa import files
from lapa.config.data import StreamConfig
from lapa.config.training import FitConfig
from lapa.data.dataset import Dataset
from lapa.data.stream import SampleSpec, training_batches, validation_batches
from lapa.models.storage import model_digest
from lapa.stages.context import Stage
from lapa.stages.profiled import profiled
from lapa.stages.results import Artifact
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import Engine, build_engine
from lapa.training.fit import FitResult, fit
from lapa.training.hooks import Hook, MetricsHook, ProgressHook
from lapa.training.metrics_server import served_metrics
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
    with served_metrics() as watchers:
        engine = build_engine(build_model, run.engine, config, seed=run.seed)
        try:
            checkpoints = Checkpoints(
                files.join(stage.folder, "checkpoints"),
                keep=config.keep_checkpoints,
                resolved_run=run.model_dump(mode="json"),
            )
            streams = Streams(dataset=dataset, spec=spec, stream=stream, config=config, engine=engine, seed=run.seed)
            with profiled(stage, engine.device) as profilers:
                hooks = [*profilers, *_hooks(stage), *watchers]
                result = fit(task, engine, streams.batches, streams.held_out, config, checkpoints, hooks, seed=run.seed)
            return result, _keep_model(stage, checkpoints)
        finally:
            engine.close()


@dataclass(frozen=True, kw_only=True)
class Streams:
    """What one rank reads."""

    dataset: Dataset
    spec: SampleSpec
    stream: StreamConfig
    config: FitConfig
    engine: Engine
    seed: int

    def batches(self, start_step: int) -> Iterator[Batch]:
        """Endless, this rank's share of each global batch from a step on."""
        return training_batches(
            self.dataset,
            self.spec,
            self.stream,
            batch_size=self.config.batch_size,
            seed=self.seed,
            start_step=start_step,
            rank=self.engine.rank,
            world_size=self.engine.world_size,
        )

    def held_out(self) -> Iterable[Batch]:
        return validation_batches(
            self.dataset,
            self.spec,
            self.stream,
            batch_size=self.config.batch_size,
            rank=self.engine.rank,
            world_size=self.engine.world_size,
            max_batches=self.config.validation_batches,
        )


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
