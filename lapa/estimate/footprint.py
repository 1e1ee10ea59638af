"""What one model asks of a device, before there is a device: counted on fake tensors, told as plain numbers."""

from typing import Literal

from pydantic import Field

from lapa.config.base import Config

EstimatedStage = Literal["laq", "label", "pretrain", "finetune"]
ESTIMATED_STAGES: tuple[EstimatedStage, ...] = ("laq", "label", "pretrain", "finetune")
"""Stages whose time goes into a model on a GPU."""


class Affine(Config):
    """Bytes as a function of the samples of one forward pass."""

    fixed: int
    per_sample: int

    def at(self, samples: int) -> int:
        return self.fixed + samples * self.per_sample


class ParameterGroup(Config):
    """Parameters of one size."""

    numel: int
    count: int
    is_trainable: bool


class Work(Config):
    """One way to run the model."""

    saved: Affine
    """Tensors that the forward pass keeps for the backward pass, without parameters and buffers. The fixed part
    is mostly parameters in the number format of the arithmetic, which autocast makes once per pass."""
    recomputed: Affine = Affine(fixed=0, per_sample=0)
    """What checkpointing computes again at one time, at most: one layer."""
    flops: int
    """Floating point operations of matrix products, attention and convolutions per sample: of a whole training step,
    or of a forward pass where nothing is trained."""
    moved: Affine = Affine(fixed=0, per_sample=0)
    """Bytes that the same operators read and write, each by itself: none of them is fused with another."""
    calls: int = 0
    """Operators of the same pass, views among them; each costs its host time, whatever its size."""


class Footprint(Config):
    """Of one stage's model."""

    stage: EstimatedStage
    parameters: tuple[ParameterGroup, ...]
    buffer_bytes: int = 0
    work: Work
    checkpointed: Work | None = None
    """With activation checkpointing, where the backbone has it."""
    is_checkpointed: bool = False
    """Whether the run's own settings ask for it."""
    tokens: int | None = None
    """Positions that a language model reads per sample, with a typical instruction."""
    frame_bytes: int
    """Of one decoded frame as it travels to the device."""
    stored_bytes: float
    """That storage delivers per sample: each frame of an epoch is read once."""
    stored_bytes_are_measured: bool
    """False: the dataset is not made, and typical video is assumed."""
    samples: int | None = Field(None, ge=0)
    """Of the dataset, where it is made."""
    notes: tuple[str, ...] = ()

    @property
    def numel(self) -> int:
        return sum(group.numel * group.count for group in self.parameters)

    @property
    def trainable(self) -> int:
        return sum(group.numel * group.count for group in self.parameters if group.is_trainable)

    def way(self, *, is_checkpointed: bool) -> Work:
        return self.checkpointed if is_checkpointed and self.checkpointed else self.work
