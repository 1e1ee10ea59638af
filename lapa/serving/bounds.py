"""The last look at an action before it leaves for a robot."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from lapa.models.vla.action_space import ActionSpace
from lapa.serving.refusals import Refusal

ROUNDING = 1e-5
"""Share of a dimension's range: what float32 may add to a number that is inside."""


@dataclass(frozen=True, kw_only=True)
class CheckedChunk:
    """A chunk that may leave."""

    actions: Float32[np.ndarray, "k a"]
    outside: tuple[int, ...]
    """Numbers per dimension that had to be brought into range."""


class NotFinite(Refusal):
    """The model gave NaN or infinity."""


class OutOfBounds(Refusal):
    """The model gave an action outside the recorded range, and the server was told to refuse those."""

    def __init__(self, message: str, outside: tuple[int, ...]) -> None:
        super().__init__("unsafe_action", message)
        self.outside = outside


class ActionBounds:
    """The range that was recorded, per dimension: the robot was never shown to survive what lies beyond."""

    def __init__(self, space: ActionSpace, handling: Literal["clamp", "refuse"]) -> None:
        self.names, self.handling = space.names, handling
        self.low = np.array([dimension.min for dimension in space.dimensions])
        self.high = np.array([dimension.max for dimension in space.dimensions])
        self._slack = (self.high - self.low) * ROUNDING

    def check(self, actions: Float[np.ndarray, "k a"]) -> CheckedChunk:
        """Raises NotFinite, and OutOfBounds where those are to be refused."""
        if not np.isfinite(actions).all():
            names = [self.names[i] for i in np.flatnonzero(~np.isfinite(actions).all(axis=0))]
            raise NotFinite(
                "unsafe_action",
                f"the policy gave NaN or infinite values for {', '.join(names)}; stop the robot. The weights are "
                "damaged or training diverged: evaluate the bundle before using it again.",
            )
        is_outside = (actions < self.low - self._slack) | (actions > self.high + self._slack)
        outside = tuple(int(count) for count in is_outside.sum(axis=0))
        if any(outside) and self.handling == "refuse":
            raise OutOfBounds(self._words(actions, is_outside), outside)
        return CheckedChunk(actions=np.clip(actions, self.low, self.high).astype(np.float32), outside=outside)

    def _words(self, actions: np.ndarray, is_outside: np.ndarray) -> str:
        timestep, i = np.argwhere(is_outside)[0]
        return (
            f"action {timestep} of the chunk has {self.names[i]}={actions[timestep, i]:.6g}, outside the recorded "
            f"range [{self.low[i]:.6g}, {self.high[i]:.6g}]; it was not sent. Hold the robot; serve with "
            "bounds=clamp to bring such actions into range."
        )
