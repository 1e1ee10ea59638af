"""`benchmarks/imagenet_encoder.py` beside EfficientNet-Lite0 written down a second time, with random weights."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.distributed import rank_environment

STAGES = ((1, 3, 1, 16, 1), (2, 3, 2, 24, 6), (2, 5, 2, 40, 6), (3, 3, 2, 80, 6), (3, 5, 1, 112, 6), (4, 5, 2, 192, 6),
          (1, 3, 1, 320, 6))  # fmt: skip
"""Repeats, kernel, stride, channels, expansion (arXiv 1905.11946, table 1)."""
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def convolution(state: dict[str, Tensor], name: str, inside: int, outside: int, kernel: int, norm: str) -> None:
    state[f"{name}.weight"] = torch.randn(outside, inside, kernel, kernel) / (inside * kernel**2) ** 0.5
    state |= {f"{norm}.weight": torch.rand(outside) + 0.5, f"{norm}.bias": torch.randn(outside) / 4}
    state |= {f"{norm}.running_mean": torch.randn(outside) / 4, f"{norm}.running_var": torch.rand(outside) + 0.5}
    state[f"{norm}.num_batches_tracked"] = torch.tensor(1)


def drawn_weights() -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    convolution(state, "_conv_stem", 3, 32, 3, "_bn0")
    number, channels = 0, 32
    for repeats, kernel, _, out, expansion in STAGES:
        for _ in range(repeats):
            block, wide = f"_blocks.{number}.", channels * expansion
            if expansion > 1:
                convolution(state, f"{block}_expand_conv", channels, wide, 1, f"{block}_bn0")
            convolution(state, f"{block}_depthwise_conv", 1, wide, kernel, f"{block}_bn1")
            convolution(state, f"{block}_project_conv", wide, out, 1, f"{block}_bn2")
            number, channels = number + 1, out
    convolution(state, "_conv_head", channels, 1280, 1, "_bn1")
    return state


def layer(state: dict[str, Tensor], name: str, norm: str, values: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution padded as TensorFlow's `SAME` does where the stride divides the side, and its normalization."""
    kernel = state[f"{name}.weight"]
    total = max(kernel.shape[-1] - stride, 0)
    values = F.conv2d(F.pad(values, (total // 2, total - total // 2) * 2), kernel, stride=stride, groups=groups)
    statistics = (state[f"{norm}.running_mean"], state[f"{norm}.running_var"])
    return F.batch_norm(values, *statistics, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)


def second_opinion(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """What the stem and each block give, and the top. Around the picture is ImageNet's mean colour."""
    framed = (F.pad(images - MEAN, (0, 1, 0, 1)) + MEAN - 127 / 255) / (128 / 255)
    stem = layer(state, "_conv_stem", "_bn0", framed, 2)[..., : images.shape[-2] // 2, : images.shape[-1] // 2]
    states = [F.relu6(stem)]
    for repeats, _, stride, _, expansion in STAGES:
        for repeat in range(repeats):
            block, before = f"_blocks.{len(states) - 1}.", states[-1]
            wide = F.relu6(layer(state, f"{block}_expand_conv", f"{block}_bn0", before)) if expansion > 1 else before
            step = 1 if repeat else stride
            deep = layer(state, f"{block}_depthwise_conv", f"{block}_bn1", wide, step, groups=wide.shape[1])
            after = layer(state, f"{block}_project_conv", f"{block}_bn2", F.relu6(deep))
            states.append(before + after if repeat else after)
    return [*states, F.relu6(layer(state, "_conv_head", "_bn1", states[-1]))]


@pytest.mark.slow  # imports transformers
@pytest.mark.parametrize("stages", [7, 3])
def test_the_written_encoder_computes_what_efficientnet_lite_does(repository, tmp_path, stages: int):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    state = drawn_weights()
    torch.save(
        {**state, "_fc.weight": torch.zeros(1), "_fc.bias": torch.zeros(1)}, tmp_path / "efficientnet-lite0-x.pth"
    )
    command = [sys.executable, str(repository / "benchmarks/imagenet_encoder.py"), str(tmp_path)]
    command += ["--out", str(tmp_path / "encoder"), "--stages", str(stages)]
    subprocess.run(command, env=rank_environment(), check=True, capture_output=True, timeout=600)
    encoder = transformers.AutoModel.from_pretrained(tmp_path / "encoder").eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = encoder(pixel_values=(images - MEAN) / STD, output_hidden_states=True)
        expected = second_opinion(state, images)
    blocks = sum(repeats for repeats, *_ in STAGES[:stages])
    assert len(found.hidden_states) == blocks + 1
    for ours, theirs in zip(found.hidden_states, expected, strict=False):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    if stages == len(STAGES):
        torch.testing.assert_close(found.last_hidden_state, expected[-1], atol=1e-4, rtol=1e-4)
    else:
        both = torch.cat([expected[blocks], -expected[blocks]], 1) / 8
        torch.testing.assert_close(found.last_hidden_state[:, : both.shape[1]], F.relu6(both), atol=1e-4, rtol=1e-4)
