"""The other labeller of stage `laq`: inverse dynamics learned from the robot's own episodes (the VPT baseline)."""

import logging

from lapa.config.stages import LaqConfig
from lapa.data.dataset import Dataset
from lapa.data.motion import motion_statistics
from lapa.data.stream import SampleSpec
from lapa.errors import DataError
from lapa.models.inverse_dynamics.model import InverseDynamicsModel, InverseDynamicsSpec
from lapa.models.vla.action_space import dimension_names
from lapa.stages.context import Stage
from lapa.stages.learned_from import keep_learned_from
from lapa.stages.training import train
from lapa.tracking.registry import INVERSE_DYNAMICS_MODEL
from lapa.training.tasks.inverse_dynamics import InverseDynamicsTask

logger = logging.getLogger(__name__)


def train_inverse_dynamics(stage: Stage, config: LaqConfig) -> None:
    """Train on frame pairs one window apart, validate on held-out episodes, and register the model."""
    if ignored := ignored_settings(config):
        logger.warning("event=setting-ignored settings=%s reason=laq.labeller=inverse-dynamics", ",".join(ignored))
    dataset = Dataset.open(stage.inputs["robot"].url, reads=stage.run.reads)
    spec = inverse_dynamics_spec(config, dataset)
    task = InverseDynamicsTask(spec)
    result, model = train(
        stage,
        build_model=lambda: InverseDynamicsModel(spec),
        task=task,
        dataset=dataset,
        spec=SampleSpec(window_seconds=config.window_seconds, motion_share=1.0),
        stream=config.stream,
        config=config.inverse_dynamics.fit,
    )
    if stage.is_main:
        keep_learned_from(model.url, dataset, config.window_seconds)
    stage.finish(
        outputs={"model": model},
        metrics=result.metrics,
        messages=task.verdicts(result.metrics),
        registered=stage.register(INVERSE_DYNAMICS_MODEL, model, result.metrics),
    )


def ignored_settings(config: LaqConfig) -> list[str]:
    """What is set for the latent-action model, beside its size and training, and does nothing for this one."""
    names = ("gate", "supervision", "augmentation", "released_weights")
    return [f"laq.{name}" for name in names if getattr(config, name) is not None]


def inverse_dynamics_spec(config: LaqConfig, dataset: Dataset) -> InverseDynamicsSpec:
    """The model's size, with statistics of the training episodes alone. DataError for episodes without actions."""
    if not dataset.info.has_actions:
        raise DataError(
            f"{dataset.url} has no actions, which laq.labeller=inverse-dynamics learns. Use robot episodes that were "
            "recorded with them, or set laq.labeller to latent-action."
        )
    motion = motion_statistics(
        dataset, window_seconds=config.window_seconds, share=1.0, validation_share=config.stream.validation_share
    )
    size = config.inverse_dynamics
    return InverseDynamicsSpec(
        image_size=size.image_size,
        width=size.width,
        blocks=size.blocks,
        action_names=dimension_names(dataset.info.action_names, dataset.info.action_dims),
        action_mean=tuple(motion.mean.tolist()),
        action_std=tuple(motion.std.tolist()),
    )
