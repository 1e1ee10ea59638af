"""Small models and batches for the tests of this folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lapa.config.vla import ActionHeadConfig, ConvolutionalBackbone, HuggingFaceBackbone
from lapa.models.vla.action_space import ActionSpace, fit_action_space
from lapa.models.vla.model import VisionLanguageAction, build_vla
from lapa.models.vla.spec import VlaSpec
from lapa.models.vla.tiny import Family, write_tiny_backbone
from lapa.types.batches import Batch

CODES, ENTRIES = 4, 8


def two_dims_and_a_gripper(bins: int = 16) -> ActionSpace:
    rng = np.random.default_rng(0)
    actions = np.concatenate([rng.normal(size=(400, 2)), rng.integers(0, 2, size=(400, 1))], axis=1)
    return fit_action_space(actions, names=("x", "y", "gripper"), bins=bins)


def small_convolutional() -> ConvolutionalBackbone:
    return ConvolutionalBackbone(image_size=24, width=16, blocks=2, keypoints=8, hidden=32)


def tiny_backbone(folder: Path, family: Family, **settings: Any) -> HuggingFaceBackbone:
    return HuggingFaceBackbone(model=str(write_tiny_backbone(folder, family)), weights="random", **settings)


def spec_of(backbone, head: ActionHeadConfig | None = None, *, latent: bool = True, **settings: Any) -> VlaSpec:
    return VlaSpec(
        backbone=backbone,
        codes_per_pair=CODES if latent else 0,
        codebook_size=ENTRIES if latent else 0,
        head=head,
        actions=two_dims_and_a_gripper() if head else None,
        **settings,
    )


def seeded(spec: VlaSpec) -> VisionLanguageAction:
    torch.manual_seed(0)
    return build_vla(spec)


def some_batch(size: int = 3, *, horizon: int = 2, image_size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(size, horizon, 3, generator=generator)
    actions[..., 2] = (actions[..., 2] > 0).float()
    texts = ("push", "push the red circle to the left side of the table", "reach the star")
    return Batch(
        current=torch.randint(0, 256, (size, 3, image_size, image_size), dtype=torch.uint8, generator=generator),
        instructions=tuple(texts[i % 3] for i in range(size)),
        episode=torch.zeros(size, dtype=torch.int64),
        timestep=torch.arange(size),
        codes=torch.randint(0, ENTRIES, (size, CODES), generator=generator),
        actions=actions,
        action_is_real=torch.ones(size, horizon, dtype=torch.bool),
    )
