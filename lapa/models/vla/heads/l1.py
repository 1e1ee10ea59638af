"""Regresses the whole chunk in one pass, from one learned query per timestep (as OpenVLA-OFT does)."""

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lapa.config.vla import L1Head as L1Config
from lapa.models.vla.action_space import ActionSpace
from lapa.models.vla.heads.layers import mean_of_real
from lapa.models.vla.heads.scaling import ActionScaling


class L1ActionHead(nn.Module):
    """b batch, k chunk length, a action dimensions, d width."""

    vocabulary = "action"

    def __init__(self, config: L1Config, space: ActionSpace, width: int) -> None:
        super().__init__()
        self.horizon, self.rows = config.horizon, config.horizon
        self.scaling = ActionScaling(space)
        self.regress = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, space.size)
        )

    def queries(self, size: int, device: torch.device) -> Int64[Tensor, "b k"]:
        """Tokens after the prompt."""
        return repeat(torch.arange(self.horizon, device=device), "k -> b k", b=size)

    def losses(
        self, hidden: Float[Tensor, "b q d"], actions: Float[Tensor, "b k a"], is_real: Bool[Tensor, "b k"] | None
    ) -> dict[str, Tensor]:
        error = (self.regress(hidden[:, 1:]).float() - self.scaling.normalize(actions)).abs()
        return {"action": mean_of_real(error.mean(dim=-1), is_real)}

    def decode(self, hidden: Float[Tensor, "b q d"], generator: torch.Generator | None) -> Float[Tensor, "b k a"]:
        del generator  # regression draws nothing
        return self.scaling.denormalize(self.regress(hidden[:, 1:]))
