"""Flow matching over a chunk of normalized actions, conditioned on one hidden state (after pi0)."""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lapa.config.vla import FlowHead as FlowConfig
from lapa.models.randomness import sample_normal, sample_uniform
from lapa.models.vla.action_space import ActionSpace
from lapa.models.vla.heads.layers import mean_of_real
from lapa.models.vla.heads.scaling import ActionScaling

_TIME_WIDTH = 32


class FlowActionHead(nn.Module):
    """Learns the velocity from noise (time 0) to the chunk (time 1); decodes with Euler steps.

    b batch, k chunk length, a action dimensions, d width.
    """

    vocabulary = "action"
    rows = 1

    def __init__(self, config: FlowConfig, space: ActionSpace, width: int) -> None:
        super().__init__()
        self.config, self.horizon, self.size = config, config.horizon, space.size
        self.scaling = ActionScaling(space)
        chunk = config.horizon * space.size
        self.condition = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.width))
        self.velocity = nn.Sequential(
            nn.Linear(chunk + _TIME_WIDTH + config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, chunk),
        )

    def queries(self, size: int, device: torch.device) -> Int64[Tensor, "b 1"]:
        """The one token after the prompt."""
        return torch.zeros(size, 1, dtype=torch.int64, device=device)

    def losses(
        self, hidden: Float[Tensor, "b 2 d"], actions: Float[Tensor, "b k a"], is_real: Bool[Tensor, "b k"] | None
    ) -> dict[str, Tensor]:
        target = self.scaling.normalize(actions.float())
        noise = sample_normal(target.shape, device=target.device)
        time = sample_uniform((len(target),), device=target.device)
        between = torch.lerp(noise, target, time[:, None, None])
        error = (self._velocity(between, time, self.condition(hidden[:, -1])) - (target - noise)) ** 2
        return {"action": mean_of_real(error.mean(dim=-1), is_real)}

    def decode(self, hidden: Float[Tensor, "b 2 d"], generator: torch.Generator | None) -> Float[Tensor, "b k a"]:
        condition = self.condition(hidden[:, -1])
        shape = (len(hidden), self.horizon, self.size)
        drawn_on = generator.device if generator is not None else hidden.device
        chunk = torch.randn(shape, generator=generator, device=drawn_on).to(hidden.device)
        steps = self.config.integration_steps
        for step in range(steps):
            time = torch.full((len(hidden),), step / steps, device=hidden.device)
            chunk = chunk + self._velocity(chunk, time, condition) / steps
        return self.scaling.denormalize(chunk)

    def _velocity(
        self, chunk: Float[Tensor, "b k a"], time: Float[Tensor, " b"], condition: Float[Tensor, "b w"]
    ) -> Float[Tensor, "b k a"]:
        inputs = [rearrange(chunk, "b k a -> b (k a)"), _embed_time(time)]
        joined = torch.cat([*(value.to(condition.dtype) for value in inputs), condition], dim=-1)
        return rearrange(self.velocity(joined).float(), "b (k a) -> b k a", k=self.horizon)


def _embed_time(time: Float[Tensor, " b"]) -> Float[Tensor, "b e"]:
    frequencies = torch.exp(torch.linspace(0, math.log(100), _TIME_WIDTH // 2, device=time.device))
    angles = time[:, None] * frequencies * math.pi
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
