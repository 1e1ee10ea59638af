"""The supervised labeller: two frames -> the action between them, learned from robot episodes (VPT)."""

from typing import Annotated

from pydantic import Field

from lapa.config.base import Config
from lapa.config.training import FitConfig, OptimizerConfig


class InverseDynamicsConfig(Config):
    """A residual network over both frames, as in VPT (arXiv 2206.11795) and the paper's baseline of that name."""

    image_size: int = Field(48, ge=16)
    """Frames are resized to squares of this side, in pixels."""
    width: int = Field(32, gt=0)
    """Channels of the first of four groups of residual blocks; ResNet-18 has 64."""
    blocks: tuple[Annotated[int, Field(gt=0)], ...] = Field((2, 2, 2, 2), min_length=1)
    """Residual blocks per group, each group at half the resolution of the one before; ResNet-18 is (2, 2, 2, 2)."""
    fit: FitConfig = FitConfig(steps=1_000, batch_size=64, optimizer=OptimizerConfig(learning_rate=1e-3))
