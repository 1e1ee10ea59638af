"""Stage `finetune`: real actions from a few labelled episodes; ends with a policy bundle."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lapa import files
from lapa.config.base import result_settings
from lapa.config.run import RunConfig
from lapa.config.stages import CodesTarget, FinetuneConfig
from lapa.data.dataset import Dataset
from lapa.data.labels import Labels
from lapa.data.shuffled_labels import ShuffledLabels
from lapa.data.splits import split_rows
from lapa.data.stream import SampleSpec, episode_arrays
from lapa.errors import CheckpointMismatch, ConfigError, DataError
from lapa.models.vla.action_space import ActionSpace, dimension_names
from lapa.models.vla.heads.build import bins_of
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.storage import load_vla_spec, start_finetuning
from lapa.policy.bundle import export_bundle
from lapa.policy.held_out import some_observations
from lapa.policy.manifest import verify_bundle
from lapa.stages.action_spaces import space_of
from lapa.stages.agreement import conventions_of
from lapa.stages.context import Stage, open_stage
from lapa.stages.origin import everything_behind, licences_of
from lapa.stages.results import Artifact
from lapa.stages.training import train
from lapa.tracking.registry import POLICY_MODEL
from lapa.training.tasks.finetune import FinetuneTask

logger = logging.getLogger(__name__)

RECORDED_OBSERVATIONS = 8
"""That travel in the bundle with the policy's answers: enough to find out other weights or another preprocessing."""


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Give the pretrained model an action head, train it, export and register the policy."""
    config = run.finetune
    if config is None:
        raise ConfigError("this run has no finetune stage; remove `finetune: null` or choose another run")
    with open_stage(run, "finetune") as stage:
        dataset = Dataset.open(stage.inputs["robot"].url, reads=run.reads)
        pretrained = stage.inputs["pretrain"].url if "pretrain" in stage.inputs else None
        labels = _labels(stage, dataset)
        spec = policy_spec(config, dataset, pretrained)
        task = FinetuneTask(spec, latent_loss_weight=config.latent_loss_weight)
        result, model = train(
            stage,
            build_model=lambda: start_finetuning(pretrained, spec, keep_head=config.keep_head),
            task=task,
            dataset=dataset,
            spec=SampleSpec(horizon=config.head.horizon, proprioception=config.use_proprioception, labels=labels),
            stream=config.stream,
            config=config.fit,
        )
        policy = _export(stage, model, dataset, spec)
        stage.finish(
            outputs={"model": model, "policy": policy},
            metrics=result.metrics,
            messages=task.verdicts(result.metrics),
            registered=stage.register(
                POLICY_MODEL, policy, result.metrics, verify=partial(verify_bundle, expected=policy.digest)
            ),
        )


def _labels(stage: Stage, dataset: Dataset) -> Labels | ShuffledLabels | None:
    """Latent actions of the robot's own episodes, where the run keeps the latent loss; shuffled as in pretraining."""
    if "labels" not in stage.inputs:
        return None
    labels, laq = Labels.open(stage.inputs["labels"].url), stage.inputs["laq"].digest
    labels.check(dataset, window_seconds=stage.run.laq.window_seconds, labeller_digest=laq)
    target = stage.run.pretrain and stage.run.pretrain.target
    if isinstance(target, CodesTarget) and target.shuffled:
        return ShuffledLabels(labels=labels, num_episodes=dataset.info.num_episodes, seed=stage.run.seed)
    return labels


def policy_spec(config: FinetuneConfig, dataset: Dataset, pretrained: str | None) -> VlaSpec:
    """The pretrained model's spec with the new head (or its own, to keep), or a new model's."""
    kept = _kept_space(dataset, pretrained) if config.keep_head and pretrained else None
    actions = kept or _action_space(config, dataset)
    mean, std = _proprioception_statistics(config, dataset)
    settings: dict[str, Any] = {
        "head": config.head,
        "actions": actions,
        "proprioception_dims": dataset.info.proprioception_dims if config.use_proprioception else 0,
        "proprioception_mean": mean,
        "proprioception_std": std,
        "frame_size": dataset.info.image_size,
        "frame_resize": dataset.info.resize,
    }
    if pretrained is None:
        assert config.backbone is not None  # RunConfig checks it
        look = {"image_mean": dataset.info.frame_mean, "image_std": dataset.info.frame_std}
        return VlaSpec(backbone=config.backbone, **look, **settings)
    base = load_vla_spec(pretrained).model_dump()
    if config.latent_loss_weight == 0:
        base |= {"codes_per_pair": 0, "codebook_size": 0}
    return VlaSpec.model_validate({**base, **settings})


def _action_space(config: FinetuneConfig, dataset: Dataset) -> ActionSpace:
    """Bins and statistics of the training episodes alone; held-out ones must not leak into them."""
    if not dataset.info.has_actions:
        raise DataError(f"{dataset.url} has no actions; finetune needs robot episodes that were recorded with them.")
    rows, _ = split_rows(dataset, config.stream.validation_share)
    recorded = (episode_arrays(dataset, row)["actions"] for row in rows)
    return space_of(recorded, dataset.info.action_names, bins_of(config.head))


def _kept_space(dataset: Dataset, pretrained: str) -> ActionSpace:
    """The pretrained action head's own space. CheckpointMismatch where the robot's actions have other dimensions."""
    space = load_vla_spec(pretrained).actions
    wanted = dimension_names(dataset.info.action_names, dataset.info.action_dims)
    if space is None or space.names != wanted:
        holds = "no action head" if space is None else f"an action head for {', '.join(space.names)}"
        raise CheckpointMismatch(
            f"{pretrained} holds {holds}; the actions of {dataset.url} are {', '.join(wanted) or 'none'}, and "
            "finetune.keep_head needs the same ones in the same order. Set finetune.keep_head=false for a new head."
        )
    return space


def _proprioception_statistics(config: FinetuneConfig, dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over the training episodes, as for actions; empty without proprioception."""
    if not config.use_proprioception or not dataset.info.proprioception_dims:
        return (), ()
    values = _training_values(config, dataset, "proprioception").astype(np.float64)
    return tuple(values.mean(axis=0).tolist()), tuple(values.std(axis=0).tolist())


def _training_values(config: FinetuneConfig, dataset: Dataset, name: str) -> np.ndarray:
    """One array of every training episode, end to end."""
    rows, _ = split_rows(dataset, config.stream.validation_share)
    return np.concatenate([episode_arrays(dataset, row)[name] for row in rows])


def _export(stage: Stage, model: Artifact, dataset: Dataset, spec: VlaSpec) -> Artifact:
    url = files.join(stage.folder, "policy")
    if not stage.is_main:
        return Artifact(url=url, digest="")
    assert stage.run.finetune is not None, "this is its stage"
    behind = everything_behind(stage.inputs)
    observations = some_observations(
        dataset,
        validation_share=stage.run.finetune.stream.validation_share,
        use_proprioception=spec.proprioception_dims > 0,
        count=RECORDED_OBSERVATIONS,
    )
    with TemporaryDirectory(prefix="lapa-policy-") as scratch:
        digest = export_bundle(
            Path(scratch),
            model.url,
            # Digests and settings alone, no places: equal policies are equal bundles wherever they were made.
            lineage={path: artifact.digest for path, artifact in behind.items()},
            licences=licences_of(behind),
            conventions=conventions_of(dataset),
            resolved_run=result_settings(stage.run),
            observations=observations,
        )
        files.upload(Path(scratch), url, last="manifest.json")
    logger.info("policy=%s digest=%s", url, digest)
    return Artifact(url=url, digest=digest)
