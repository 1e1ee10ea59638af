"""Stage `pretrain`: a vision-language model learns latent actions, or, for comparison, actions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from lapa.config.run import RunConfig
from lapa.config.stages import CodesTarget, LabelledActionsTarget, PretrainConfig, RecordedActionsTarget
from lapa.config.vla import ActionHeadConfig
from lapa.data.dataset import Dataset
from lapa.data.labels import LabellerKind, Labels
from lapa.data.shuffled_labels import ShuffledLabels
from lapa.data.splits import split_rows
from lapa.data.stream import SampleSpec, episode_arrays
from lapa.errors import ConfigError, DataError
from lapa.models.vla.heads.build import bins_of
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.stages.action_spaces import space_of
from lapa.stages.context import Stage, open_stage
from lapa.stages.training import train
from lapa.tracking.registry import VLA_MODEL
from lapa.training.tasks.actions import ActionTask
from lapa.training.tasks.pretrain import PretrainTask


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one `pretrain.target` makes of the training."""

    spec: VlaSpec
    samples: SampleSpec
    task: PretrainTask | ActionTask


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Train the backbone on observation, instruction -> target and register it."""
    config = run.pretrain
    if config is None:
        raise ConfigError("this run has no pretrain stage; remove `pretrain: null` or choose another run")
    with open_stage(run, "pretrain") as stage:
        dataset = Dataset.open(stage.inputs["videos"].url, reads=run.reads)
        target = _target(stage, config, dataset)
        result, model = train(
            stage,
            build_model=lambda: build_vla(target.spec),
            task=target.task,
            dataset=dataset,
            spec=target.samples,
            stream=config.stream,
            config=config.fit,
        )
        stage.finish(
            outputs={"model": model},
            metrics=result.metrics,
            messages=target.task.verdicts(result.metrics),
            registered=stage.register(VLA_MODEL, model, result.metrics),
        )


def _target(stage: Stage, config: PretrainConfig, dataset: Dataset) -> Target:
    match config.target:
        case CodesTarget():
            return _codes(stage, config, config.target, dataset)
        case LabelledActionsTarget():
            labels = _labels(stage, dataset, "inverse-dynamics")
            actions = (labels.actions_of(row) for row in _training_rows(config, dataset))
            spec = _action_spec(config, config.target.head, dataset, actions, labels.stamp.action_names)
            samples = SampleSpec(horizon=config.target.head.horizon, action_labels=labels)
            return Target(spec=spec, samples=samples, task=ActionTask(spec))
        case RecordedActionsTarget():
            if not dataset.info.has_actions:
                raise DataError(
                    f"{dataset.url} has no actions, which pretrain.target.kind=recorded-actions learns. Use a videos "
                    "dataset whose episodes were all recorded with actions, or pretrain.target.kind=codes."
                )
            actions = (episode_arrays(dataset, row)["actions"] for row in _training_rows(config, dataset))
            spec = _action_spec(config, config.target.head, dataset, actions, dataset.info.action_names)
            samples = SampleSpec(horizon=config.target.head.horizon)
            return Target(spec=spec, samples=samples, task=ActionTask(spec))
        case _:
            assert_never(config.target)


def _codes(stage: Stage, config: PretrainConfig, target: CodesTarget, dataset: Dataset) -> Target:
    labels = _labels(stage, dataset, "latent-action")
    spec = VlaSpec(
        backbone=config.backbone,
        codes_per_pair=labels.stamp.codes_per_pair,
        codebook_size=labels.stamp.codebook_size,
        image_mean=dataset.info.frame_mean,
        image_std=dataset.info.frame_std,
    )
    wrong = ShuffledLabels(labels=labels, num_episodes=dataset.info.num_episodes, seed=stage.run.seed)
    samples = SampleSpec(labels=wrong if target.shuffled else labels)
    return Target(spec=spec, samples=samples, task=PretrainTask(spec))


def _labels(stage: Stage, dataset: Dataset, kind: LabellerKind) -> Labels:
    labels, laq = Labels.open(stage.inputs["labels"].url), stage.inputs["laq"].digest
    labels.check(dataset, window_seconds=stage.run.laq.window_seconds, labeller_digest=laq, labeller_kind=kind)
    return labels


def _training_rows(config: PretrainConfig, dataset: Dataset) -> list[int]:
    """Held-out episodes must not leak into bins and statistics."""
    rows: list[int] = split_rows(dataset, config.stream.validation_share)[0].tolist()
    return rows


def _action_spec(
    config: PretrainConfig,
    head: ActionHeadConfig,
    dataset: Dataset,
    actions: Iterable[np.ndarray],
    names: Sequence[str],
) -> VlaSpec:
    """With bins and statistics of the training episodes' actions, whoever put them there."""
    return VlaSpec(
        backbone=config.backbone,
        head=head,
        actions=space_of(actions, names, bins_of(head)),
        image_mean=dataset.info.frame_mean,
        image_std=dataset.info.frame_std,
    )
