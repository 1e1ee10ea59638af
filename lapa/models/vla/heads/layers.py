"""Layers that every head shares."""

from jaxtyping import Bool, Float
from torch import Tensor, nn


class NewLinear(nn.Linear):
    """Bias-less output layer at the scale of the backbone's own, drawn at construction (see NewEmbedding)."""

    def __init__(self, width: int, rows: int, std: float) -> None:
        self._std = std
        super().__init__(width, rows, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self._std)


def mean_of_real(values: Float[Tensor, "b k"], is_real: Bool[Tensor, "b k"] | None) -> Float[Tensor, ""]:
    """Mean over the timesteps inside their episode; 0 when there is none."""
    if is_real is None:
        return values.mean()
    weight = is_real.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1)
