"""Stage `laq`: name the change between two frames with a few discrete latent actions."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from lapa import files
from lapa.config.run import RunConfig
from lapa.config.stages import LaqConfig
from lapa.data.dataset import Dataset
from lapa.data.motion import MotionStatistics, motion_statistics
from lapa.data.stream import SampleSpec
from lapa.models.latent_action.model import LATENT_ACTION_KIND, LatentActionModel, build_latent_action_model
from lapa.models.latent_action.released import load_released, read_released
from lapa.models.latent_action.supervision import MotionHead
from lapa.models.storage import model_digest, save_model
from lapa.stages.context import Stage, open_stage
from lapa.stages.inverse_dynamics import train_inverse_dynamics
from lapa.stages.learned_from import keep_learned_from
from lapa.stages.results import Artifact
from lapa.stages.training import train
from lapa.tracking.registry import LAQ_MODEL
from lapa.training.tasks.laq import LaqTask


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Train the labeller on frame pairs (of the videos, or of the robot's episodes), or take released weights."""
    with open_stage(run, "laq") as stage:
        if run.laq.labeller == "inverse-dynamics":
            train_inverse_dynamics(stage, run.laq)
        elif run.laq.released_weights and not run.laq.train_released:
            _keep_released(stage, run.laq)
        else:
            _train(stage, run.laq)


def _train(stage: Stage, config: LaqConfig) -> None:
    dataset = Dataset.open(stage.inputs["videos"].url, reads=stage.run.reads)
    probe = Dataset.open(stage.inputs["robot"].url, reads=stage.run.reads) if "robot" in stage.inputs else None
    task = LaqTask(config, probe=probe, tracker=stage.tracker)
    share = None if config.supervision is None else config.supervision.share
    motion = None
    if share is not None:
        motion = motion_statistics(
            dataset,
            window_seconds=config.window_seconds,
            share=share,
            validation_share=config.stream.validation_share,
        )
    result, model = train(
        stage,
        build_model=lambda: with_motion_head(_new_model(config), motion),
        task=task,
        dataset=dataset,
        spec=SampleSpec(window_seconds=config.window_seconds, motion_share=share),
        stream=config.stream,
        config=config.fit,
    )
    if stage.is_main:
        keep_learned_from(model.url, dataset, config.window_seconds)
    stage.finish(
        outputs={"model": model},
        metrics=result.metrics,
        messages=task.verdicts(result.metrics),
        registered=stage.register(LAQ_MODEL, model, result.metrics),
    )


def with_motion_head(model: LatentActionModel, motion: MotionStatistics | None) -> LatentActionModel:
    """Drawn after the model's own weights, which are then those of the run without supervision."""
    if motion is not None:
        model.motion_head = MotionHead(
            model.config.codes_per_pair * model.quantizer.latent_width,
            mean=torch.from_numpy(motion.mean),
            std=torch.from_numpy(motion.std),
            told_share=motion.share,
        )
    return model


def _keep_released(stage: Stage, config: LaqConfig) -> None:
    """The released weights as the stage's model."""
    if not stage.is_main:
        return
    url = files.join(stage.folder, "model")
    with tempfile.TemporaryDirectory(prefix="lapa-model-") as scratch:
        state = _new_model(config).state_dict()
        save_model(Path(scratch), kind=LATENT_ACTION_KIND, config=config.model, state=state)
        files.upload(Path(scratch), url, last="config.json")
    model = Artifact(url=url, digest=model_digest(url))
    stage.finish(
        outputs={"model": model},
        metrics={},
        messages=[
            f"The released weights {config.released_weights} are the model as they are; nothing was trained. "
            "To train on from them, set laq.train_released=true."
        ],
        registered=stage.register(LAQ_MODEL, model, {}),
    )


def _new_model(config: LaqConfig) -> LatentActionModel:
    """With fresh weights, or released ones."""
    model = build_latent_action_model(config.model)
    if config.released_weights:
        load_released(model, read_released(config.released_weights))
    return model
