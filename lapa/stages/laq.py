"""Stage `laq`: name the change between two frames with a few discrete latent actions."""

from collections.abc import Sequence

from lapa.config.run import RunConfig
from lapa.data.dataset import Dataset
from lapa.data.stream import SampleSpec
from lapa.models.latent_action.model import build_latent_action_model
from lapa.stages.context import open_stage
from lapa.stages.training import train
from lapa.tracking.registry import LAQ_MODEL
from lapa.training.tasks.laq import LaqTask


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Train the latent-action model on the videos' frame pairs and register it."""
    config = run.laq
    with open_stage(run, "laq") as stage:
        dataset = Dataset.open(stage.inputs["videos"].url)
        probe = Dataset.open(stage.inputs["robot"].url) if "robot" in stage.inputs else None
        task = LaqTask(config, probe=probe, tracker=stage.tracker)
        result, model = train(
            stage,
            build_model=lambda: build_latent_action_model(config.model),
            task=task,
            dataset=dataset,
            spec=SampleSpec(window_seconds=config.window_seconds),
            stream=config.stream,
            config=config.fit,
        )
        stage.finish(
            outputs={"model": model},
            metrics=result.metrics,
            messages=task.verdicts(result.metrics),
            registered=stage.register(LAQ_MODEL, model, result.metrics),
        )
