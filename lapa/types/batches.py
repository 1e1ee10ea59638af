"""What flows through the models, on the device.

b batch, c h w image (uint8 until the model's own preprocessing), n codes per frame pair, k action
chunk length, a action dimensions, p proprioception dimensions.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

NO_CODE = -1
"""Stands for the codes of a timestep whose future lies past the episode's end; carries no loss."""

Images = UInt8[Tensor, "b c h w"]


@dataclass(frozen=True, kw_only=True)
class FramePair:
    """Two frames of one episode, one window apart: x_t and x_t+H."""

    current: Images
    future: Images


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of the training stream. A stage reads the fields it asked the stream for."""

    current: Images
    instructions: tuple[str, ...]
    episode: Int64[Tensor, " b"]
    """Row of the episode in the dataset's index."""
    timestep: Int64[Tensor, " b"]
    future: Images | None = None
    codes: Int64[Tensor, "b n"] | None = None
    """Latent action of this timestep, from the label stage; NO_CODE where it has none."""
    actions: Float[Tensor, "b k a"] | None = None
    """Action chunk starting at this timestep, in the robot's own units."""
    action_is_real: Bool[Tensor, "b k"] | None = None
    """False where the chunk reaches past the end of the episode; such entries carry no loss."""
    proprioception: Float[Tensor, "b p"] | None = None
    motion: Float[Tensor, "b a"] | None = None
    """Mean of the actions between both frames, in the robot's own units; NaN where it is withheld."""

    @property
    def size(self) -> int:
        return self.current.shape[0]

    @property
    def pair(self) -> FramePair:
        assert self.future is not None, "the stream was built without a window"
        return FramePair(current=self.current, future=self.future)

    def to(self, device: torch.device) -> Self:
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)
