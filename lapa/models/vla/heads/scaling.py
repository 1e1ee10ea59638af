"""Actions as a regression sees them: each dimension in about [-1, 1]."""

import torch
from jaxtyping import Float
from torch import Tensor

from lapa.models.vla.action_space import ActionDimension, ActionSpace


class ActionScaling:
    """1st to 99th percentile become -1 to 1; two distinct values become exactly -1 and 1."""

    def __init__(self, space: ActionSpace) -> None:
        self.space = space
        limits = torch.tensor([_limits(dimension) for dimension in space.dimensions], dtype=torch.float32)
        self._middle = limits.mean(dim=-1)
        self._half = (limits[:, 1] - limits[:, 0]) / 2

    def normalize(self, actions: Float[Tensor, "*k a"]) -> Float[Tensor, "*k a"]:
        return (actions - self._middle.to(actions.device)) / self._half.to(actions.device)

    def denormalize(self, scaled: Float[Tensor, "*k a"]) -> Float[Tensor, "*k a"]:
        """Robot units; discrete dimensions snap to the nearer of their values."""
        actions = scaled.float() * self._half.to(scaled.device) + self._middle.to(scaled.device)
        for i, dimension in enumerate(self.space.dimensions):
            if dimension.kind == "discrete":
                values = torch.tensor(dimension.entries, device=actions.device, dtype=actions.dtype)
                nearest = (actions[..., i, None] - values).abs().argmin(dim=-1)
                # A NaN must stay one: snapping would hide a broken model behind a valid command.
                actions[..., i] = torch.where(actions[..., i].isnan(), actions[..., i], values[nearest])
        return actions


def _limits(dimension: ActionDimension) -> tuple[float, float]:
    if dimension.kind == "discrete":
        low, high = dimension.entries[0], dimension.entries[-1]
    else:
        low, high = dimension.q01, dimension.q99
        if high <= low:
            low, high = dimension.min, dimension.max
    return (low, high) if high > low else (low - 1, low + 1)
