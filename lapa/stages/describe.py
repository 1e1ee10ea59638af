"""What a preset's model is made of: layers, parameters and FLOPs per sample, as JSON on stdout.

The model is built from fake tensors: nothing is allocated, so full-size presets describe on a laptop.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from lapa.config.latent_action import LatentActionConfig, TransformerArchitecture
from lapa.config.run import RunConfig
from lapa.config.vla import BackboneConfig
from lapa.errors import ConfigError
from lapa.models.latent_action.model import build_latent_action_model
from lapa.models.latent_action.released import released_parameter_count
from lapa.models.vla.model import build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.types.batches import Batch, FramePair


def main(run: RunConfig, arguments: Sequence[str] = ()) -> None:
    """Print the description of one stage's model: `laq`, `pretrain` or `finetune`."""
    stage = arguments[0] if arguments else "laq"
    sys.stdout.write(json.dumps(describe(run, stage)) + "\n")


def describe(run: RunConfig, stage: str) -> dict[str, Any]:
    """Modules with their parameters, and FLOPs per sample of what the stage does with the model."""
    match stage:
        case "laq":
            return _latent_action(run.laq.model)
        case "pretrain" if run.pretrain:
            return _vla(run.pretrain.backbone, run)
        case "finetune" if run.finetune and (run.finetune.backbone or run.pretrain):
            backbone = run.finetune.backbone or (run.pretrain and run.pretrain.backbone)
            assert backbone
            return _vla(backbone, run)
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


def _vla(backbone: BackboneConfig, run: RunConfig) -> dict[str, Any]:
    codes, size = run.laq.model.codes_per_pair, run.laq.model.codebook_size
    spec = VlaSpec(backbone=backbone, codes_per_pair=codes, codebook_size=size)
    with FakeTensorMode():
        model = build_vla(spec)
        if backbone.kind == "huggingface":
            # How many tokens an image becomes is the processor's business, on real pixels.
            return {**_modules(model), "flops_per_sample": {}}
        batch = Batch(
            current=torch.zeros(1, 3, backbone.image_size, backbone.image_size, dtype=torch.uint8),
            instructions=("push the red circle to the blue square",),
            episode=torch.zeros(1, dtype=torch.int64),
            timestep=torch.zeros(1, dtype=torch.int64),
            codes=torch.zeros(1, codes, dtype=torch.int64),
        )
        return {**_modules(model), "flops_per_sample": {"train (forward)": _flops(lambda: model(batch))}}


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
