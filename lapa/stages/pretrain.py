"""Stage `pretrain`: a vision-language model learns to predict latent actions."""

from collections.abc import Sequence

from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.data.labels import Labels
from lapa.data.stream import SampleSpec
from lapa.errors import ConfigError
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.stages.context import open_stage
from lapa.stages.training import train
from lapa.tracking.registry import VLA_MODEL
from lapa.training.tasks.pretrain import PretrainTask


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Train the backbone on observation, instruction -> codes and register it."""
    config = run.pretrain
    if config is None:
        raise ConfigError("this run has no pretrain stage; remove `pretrain: null` or choose another run")
    with open_stage(run, "pretrain") as stage:
        dataset = Dataset.open(stage.inputs["videos"].url)
        labels = Labels.open(stage.inputs["labels"].url)
        laq = stage.inputs["laq"].digest
        labels.check(dataset, window_seconds=run.laq.window_seconds, labeller_digest=laq)
        spec = VlaSpec(
            backbone=config.backbone,
            codes_per_pair=labels.stamp.codes_per_pair,
            codebook_size=labels.stamp.codebook_size,
            image_mean=dataset.info.frame_mean,
            image_std=dataset.info.frame_std,
        )
        task = PretrainTask(spec)
        result, model = train(
            stage,
            build_model=lambda: build_vla(spec),
            task=task,
            dataset=dataset,
            spec=SampleSpec(labels=labels),
            stream=config.stream,
            config=config.fit,
        )
        stage.finish(
            outputs={"model": model},
            metrics=result.metrics,
            messages=task.verdicts(result.metrics),
            registered=stage.register(VLA_MODEL, model, result.metrics),
        )
