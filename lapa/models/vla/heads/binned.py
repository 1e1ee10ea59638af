"""The paper's action head: equal-frequency bins, one token per dimension and timestep of the chunk."""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lapa.config.vla import BinnedHead as BinnedConfig
from lapa.models.vla.action_space import ActionSpace
from lapa.models.vla.heads.layers import NewLinear, mean_of_real


class BinnedActionHead(nn.Module):
    """One table of bins for all dimensions; a dimension with fewer bins never sees the others' rows.

    b batch, k chunk length, a action dimensions, n = k a tokens, v bins, d width.
    """

    vocabulary = "action"

    def __init__(self, config: BinnedConfig, space: ActionSpace, width: int, std: float) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.horizon, self.length, self.rows = config.horizon, config.horizon * space.size, space.most_bins
        self.logits = NewLinear(width, self.rows, std)
        # Plain attributes, not buffers: an engine that casts the model to bf16 must not round bin borders.
        self._bins = torch.tensor([dimension.bins for dimension in space.dimensions])
        self._boundaries = [torch.tensor(d.boundaries, dtype=torch.float32) for d in space.dimensions]
        padded = [[*d.centers, *[0.0] * (self.rows - d.bins)] for d in space.dimensions]
        self._centers = torch.tensor(padded, dtype=torch.float32)

    def to_bins(self, actions: Float[Tensor, "b k a"]) -> Int64[Tensor, "b k a"]:
        """Bin of each value, the outer bins taking what lies beyond them."""
        columns = [
            torch.bucketize(actions[..., i].float().contiguous(), boundaries.to(actions.device), right=True)
            for i, boundaries in enumerate(self._boundaries)
        ]
        return torch.stack(columns, dim=-1)

    def suffix(self, actions: Float[Tensor, "b k a"]) -> Int64[Tensor, "b m"]:
        """Tokens after the prompt while training: all bins but the last, which nothing follows."""
        return rearrange(self.to_bins(actions), "b k a -> b (k a)")[:, :-1]

    def forward(self, hidden: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        logits = self.logits(hidden).float()
        allowed = self._allowed(logits.device)  # a v
        return logits.masked_fill(~repeat(allowed, "a v -> (k a) v", k=self.horizon), float("-inf"))

    def at(self, position: int, hidden: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """Logits of one position."""
        allowed = self._allowed(hidden.device)[position % self.space.size]
        return self.logits(hidden).float().masked_fill(~allowed, float("-inf"))

    def losses(
        self, hidden: Float[Tensor, "b n d"], actions: Float[Tensor, "b k a"], is_real: Bool[Tensor, "b k"] | None
    ) -> dict[str, Tensor]:
        logits, bins = self(hidden), self.to_bins(actions)
        flat = F.cross_entropy(
            rearrange(logits, "b n v -> b v n"), rearrange(bins, "b k a -> b (k a)"), reduction="none"
        )
        loss = rearrange(flat, "b (k a) -> b k a", k=self.horizon).mean(dim=-1)
        chosen = rearrange(logits.argmax(dim=-1), "b (k a) -> b k a", k=self.horizon)
        correct = (chosen == bins).float().mean(dim=-1).detach()
        return {"action": mean_of_real(loss, is_real), "accuracy/bins": mean_of_real(correct, is_real)}

    def decode(self, logits: Float[Tensor, "b n v"]) -> Float[Tensor, "b k a"]:
        """Actions in robot units: middle of the likeliest bin, or the expected value over all bins."""
        scores = rearrange(logits, "b (k a) v -> b k a v", k=self.horizon)
        centers = self._centers.to(logits.device).expand_as(scores)
        likeliest = centers.gather(-1, scores.argmax(dim=-1, keepdim=True)).squeeze(-1)
        # The likeliest of NaNs is bin 0: without this a broken model would move the robot.
        likeliest = likeliest.masked_fill(scores.isnan().any(dim=-1), float("nan"))
        if self.config.decode == "argmax":
            return likeliest
        expected = (scores.softmax(dim=-1) * centers).sum(dim=-1)
        # Half a gripper command is no command: discrete dimensions keep their likeliest value.
        continuous = torch.tensor([d.kind == "continuous" for d in self.space.dimensions], device=logits.device)
        return torch.where(continuous, expected, likeliest)

    def _allowed(self, device: torch.device) -> Bool[Tensor, "a v"]:
        return (torch.arange(self.rows)[None] < self._bins[:, None]).to(device)
