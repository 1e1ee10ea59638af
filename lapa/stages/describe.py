"""What a preset's model is made of: layers, parameters and FLOPs per sample, as JSON on stdout.

The weights are fake tensors: nothing is allocated and no weights are downloaded, so full-size presets describe
on a laptop. Of a Hugging Face backbone, the config and the processor are read.
"""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from lapa.config.data import IngestConfig, parts_of
from lapa.config.latent_action import LatentActionConfig, TransformerArchitecture
from lapa.config.run import RunConfig
from lapa.config.stages import CodesTarget, FinetuneConfig, PretrainConfig, RecordedActionsTarget
from lapa.config.vla import HuggingFaceBackbone
from lapa.data.dataset import Dataset
from lapa.errors import ConfigError, DatasetNotFound
from lapa.models.inverse_dynamics.model import InverseDynamicsModel, InverseDynamicsSpec
from lapa.models.latent_action.model import build_latent_action_model
from lapa.models.latent_action.released import released_parameter_count
from lapa.models.vla.action_space import ActionSpace, dimension_names, fit_action_space
from lapa.models.vla.heads.build import bins_of, build_action_head
from lapa.models.vla.model import VisionLanguageAction, build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.stages.plan import dataset_url, datasets_of
from lapa.types.batches import Batch, FramePair

ASSUMED_DIMS = 7
"""Of actions and robot states that are not recorded yet: six of an arm, one of a gripper."""
ASSUMED_FRAME_SIZE = 256
TYPICAL_INSTRUCTION = "push the red circle to the blue square"


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Print the description of one stage's model: `laq`, `pretrain` or `finetune`."""
    stage = arguments[0] if arguments else "laq"
    sys.stdout.write(json.dumps(describe(run, stage)) + "\n")


def describe(run: RunConfig, stage: str) -> dict[str, Any]:
    """Modules with their parameters, and FLOPs per sample of what the stage does with the model."""
    match stage:
        case "laq" if run.laq.labeller == "inverse-dynamics":
            return _inverse_dynamics(run)
        case "laq":
            return _latent_action(run.laq.model)
        case "pretrain" if run.pretrain:
            return _pretrained(run, run.pretrain)
        case "finetune" if run.finetune:
            return _finetuned(run, run.finetune)
        case _:
            raise ConfigError(f"stage '{stage}' trains no model in this run; choose laq, pretrain or finetune")


def _latent_action(config: LatentActionConfig) -> dict[str, Any]:
    with FakeTensorMode():
        model = build_latent_action_model(config)
        frames = torch.zeros(1, 3, config.image_size, config.image_size, dtype=torch.uint8)
        pair = FramePair(current=frames, future=frames)
        flops = {
            "train (forward)": _flops(lambda: model.train()(pair)),
            "label": _flops(lambda: model.eval().encode(pair)),
        }
        described = _modules(model)
        if isinstance(config.architecture, TransformerArchitecture) and config.architecture.released_layout:
            # We pad for the hardware and leave out what never trains; the published count has it the other way.
            described["parameters"] = released_parameter_count(model)
    latent_actions = config.codebook_size**config.codes_per_pair
    return {**described, "flops_per_sample": flops, "latent_actions": latent_actions}


def _inverse_dynamics(run: RunConfig) -> dict[str, Any]:
    spec, source = inverse_dynamics_spec(run)
    size = spec.image_size
    with FakeTensorMode():
        model = InverseDynamicsModel(spec)
        frames = torch.zeros(1, 3, size, size, dtype=torch.uint8)
        flops = _flops(lambda: model(FramePair(current=frames, future=frames)))
        return {**_modules(model), "flops_per_sample": {"label": flops}, "actions": source}


def inverse_dynamics_spec(run: RunConfig) -> tuple[InverseDynamicsSpec, str]:
    """What stage `laq` builds to label actions, and where the number of these is from."""
    config, (dims, source) = run.laq.inverse_dynamics, _action_dims(run, "robot")
    spec = InverseDynamicsSpec(
        image_size=config.image_size,
        width=config.width,
        blocks=config.blocks,
        action_names=dimension_names((), dims),
        action_mean=(0.0,) * dims,
        action_std=(1.0,) * dims,
    )
    return spec, f"{dims} dimensions, {source}"


def _pretrained(run: RunConfig, config: PretrainConfig) -> dict[str, Any]:
    spec, actions = pretrained_spec(run, config)
    return {**_vla(spec, frame_size(run, "videos")), **actions}


def pretrained_spec(run: RunConfig, config: PretrainConfig) -> tuple[VlaSpec, dict[str, str]]:
    """What stage `pretrain` builds, and where the number of its actions is from."""
    target = config.target
    if not isinstance(target, CodesTarget):
        dims, source = _action_dims(run, "videos" if isinstance(target, RecordedActionsTarget) else "robot")
        spec = VlaSpec(backbone=config.backbone, head=target.head, actions=_some_actions(dims, bins_of(target.head)))
        return spec, {"actions": f"{dims} dimensions, {source}"}
    codes, size = run.laq.model.codes_per_pair, run.laq.model.codebook_size
    return VlaSpec(backbone=config.backbone, codes_per_pair=codes, codebook_size=size), {}


def _finetuned(run: RunConfig, config: FinetuneConfig) -> dict[str, Any]:
    spec, actions = finetuned_spec(run, config)
    return {**_vla(spec, frame_size(run, "robot")), **actions}


def finetuned_spec(run: RunConfig, config: FinetuneConfig) -> tuple[VlaSpec, dict[str, str]]:
    """With the action head, as the finetune stage builds it; says where the number of dimensions is from."""
    backbone = run.pretrain.backbone if run.pretrain else config.backbone
    assert backbone is not None  # RunConfig checks it
    info = dataset.info if (dataset := made_dataset(run, "robot")) and dataset.info.has_actions else None
    keeps_codes = run.pretrain is not None and config.latent_loss_weight > 0
    dims, source = _action_dims(run, "robot")
    states = info.proprioception_dims if info else ASSUMED_DIMS
    spec = VlaSpec(
        backbone=backbone,
        codes_per_pair=run.laq.model.codes_per_pair if keeps_codes else 0,
        codebook_size=run.laq.model.codebook_size if keeps_codes else 0,
        head=config.head,
        actions=_some_actions(dims, bins_of(config.head)),
        proprioception_dims=states if config.use_proprioception else 0,
    )
    return spec, {"actions": f"{dims} dimensions, {source}"}


def _vla(spec: VlaSpec, side: int) -> dict[str, Any]:
    model = without_weights(spec)
    batch = some_batch(spec, side)
    described = _modules(model)
    try:
        # Outside the fake mode only the weights are fake: models look into their token ids, which must be real.
        flops = {"train (forward)": _flops(lambda: model(batch))}
    except RuntimeError as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        return {**described, "flops_per_sample": {}, "note": f"FLOPs are unknown without the weights: {why}"}
    return {**described, "flops_per_sample": flops}


def without_weights(spec: VlaSpec) -> VisionLanguageAction:
    with ExitStack() as stack:
        if isinstance(spec.backbone, HuggingFaceBackbone):
            # transformers is optional and slow to import: only the models that need it pay for it.
            from transformers.initialization import no_init_weights

            # Some families look at the values while they draw them, and fake weights have none.
            stack.enter_context(no_init_weights())
            spec = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"weights": "random"})})
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = build_vla(spec)
    if spec.head and spec.actions:
        # Small, and its bins become token ids, which models look into.
        width, std = model.backbone.width, model.backbone.std
        model.action_head = build_action_head(spec.head, spec.actions, width, std)
    return model


def some_batch(spec: VlaSpec, side: int, samples: int = 1) -> Batch:
    """Samples with everything that the model has a head for."""
    dims = spec.actions.size if spec.actions else 0
    return Batch(
        current=torch.zeros(samples, 3, side, side, dtype=torch.uint8),
        instructions=(TYPICAL_INSTRUCTION,) * samples,
        episode=torch.zeros(samples, dtype=torch.int64),
        timestep=torch.zeros(samples, dtype=torch.int64),
        codes=torch.zeros(samples, spec.codes_per_pair, dtype=torch.int64) if spec.codes_per_pair else None,
        actions=torch.zeros(samples, spec.head.horizon, dims) if spec.head else None,
        action_is_real=torch.ones(samples, spec.head.horizon, dtype=torch.bool) if spec.head else None,
        proprioception=torch.zeros(samples, spec.proprioception_dims) if spec.proprioception_dims else None,
    )


def _some_actions(dims: int, bins: int) -> ActionSpace:
    """A space that fills every bin: the size of the head is what counts."""
    spread = np.linspace(-1, 1, 4 * bins)
    return fit_action_space(np.repeat(spread[:, None], dims, axis=1), bins=bins)


def _action_dims(run: RunConfig, role: str) -> tuple[int, str]:
    """How many dimensions, and where the number is from."""
    if (dataset := made_dataset(run, role)) and dataset.info.has_actions:
        return dataset.info.action_dims, f"of the {role} dataset"
    return ASSUMED_DIMS, f"assumed, for the {role} dataset is not made yet"


def made_dataset(run: RunConfig, role: str) -> Dataset | None:
    """The dataset, where it is made already."""
    config = datasets_of(run).get(role)
    try:
        return Dataset.open(dataset_url(run, config)) if config else None
    except DatasetNotFound:
        return None


def frame_size(run: RunConfig, role: str) -> int:
    """Of the frames in the dataset: it decides how many tokens some models read."""
    if dataset := made_dataset(run, role):
        return dataset.info.image_size
    config = datasets_of(run).get(role)
    parts = parts_of(config).values() if config is not None else ()
    return next((part.image_size for part in parts if isinstance(part, IngestConfig)), ASSUMED_FRAME_SIZE)


def _modules(model: nn.Module) -> dict[str, Any]:
    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    layers = [
        {"name": name, "kind": type(module).__name__, "parameters": count(module)}
        for name, module in model.named_modules()
        if name and name.count(".") <= 1 and count(module)
    ]
    return {"model": type(model).__name__, "parameters": count(model), "layers": layers}


def _flops(call: Callable[[], Any]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
