"""The two worlds' robots: body, control rate, and what their actions mean."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from jaxtyping import Float32

from lapa.config.tabletop import WorldName
from lapa.envs.lerobot import Robot
from lapa.envs.tabletop.world import STUDIO, Physics, State

LIMIT_FPS = 10
"""Step limits are given in timesteps of a tenth of a second; a slower world gets the same seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embodiment:
    """A robot, as datasets name and time it, and its body."""

    robot: Robot
    physics: Physics

    @property
    def fps(self) -> int:
        """Timesteps per second, by definition: at 10, a window of 0.3 s is 3 timesteps."""
        return self.robot.fps

    def proprioception(self, state: State) -> Float32[np.ndarray, "2"]:
        """The pusher's own position; in turned axes from the table's centre."""
        position = state.pusher
        if self.physics.axes is not None:
            position = self.physics.action_of(position - 0.5)
        return position.astype(np.float32)

    def step_limit(self, max_steps: int) -> int:
        """`max_steps` tenths of a second in timesteps of this robot."""
        return max(1, round(max_steps * self.fps / LIMIT_FPS))


def _mirrored_and_turned(degrees: float) -> np.ndarray:
    """A reflection: the first action moves at this angle, the second to the right of it."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), -np.cos(angle)]])


_STUDIO = Embodiment(
    robot=Robot(name="tabletop", fps=LIMIT_FPS, camera="top", action_names=("dx", "dy"), state_names=("x", "y")),
    physics=STUDIO,
)
_WORKSHOP = Embodiment(
    robot=Robot(
        name="tabletop-workshop",
        fps=5,
        camera="top",
        action_names=("forward", "sideways"),
        state_names=("forward", "sideways"),
    ),
    # Smaller than the studio's pusher, so that whatever layout suits that one suits this one.
    physics=Physics(pusher_radius=0.036, max_step=0.06, substeps=5, axes=_mirrored_and_turned(125)),
)


def embodiment_of(world: WorldName) -> Embodiment:
    match world:
        case "studio":
            return _STUDIO
        case "workshop":
            return _WORKSHOP
        case _:
            assert_never(world)
