"""One of Meta-World's tasks, simulated: what happens, before anything is drawn."""

from typing import Any

import numpy as np
from jaxtyping import Float32

from lapa.config.metaworld import MetaWorldTask
from lapa.envs.metaworld.library import load_library

FPS = 20
"""Timesteps per second: one action is held for 4 of the simulator's 80 control steps per second. The experts stay as
good at this rate, an episode is 10 to 30 timesteps long, and a quarter of the pictures have to be drawn."""
ACTION_NAMES = ("dx", "dy", "dz", "gripper")
"""In [-1, 1]: 1 moves the hand's target by 4 cm, or closes the gripper with full force."""
STATE_NAMES = ("x", "y", "z", "opening")
"""The hand, in metres, and how far the gripper is open, 0 to 1."""

_REPEATS = 4


class World:
    """A task in a state. `reset` before anything else; the same seed gives the same state in any world of the task."""

    def __init__(self, task: MetaWorldTask) -> None:
        library = load_library()
        self.task = task
        self._env = library.environment(task)
        self._expert = library.expert(task)
        # The package fixes goals when a benchmark is made and offers no other way to have them drawn from a seed.
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        self._state: np.ndarray = np.zeros(39)
        self.success = False

    def reset(self, seed: int) -> None:
        self._env.seed(seed)
        self._env.reset()
        # What `reset` leaves is half of the episode before: objects and goals are seen where they lay until a step.
        self._state, *_ = self._env.step(np.zeros(len(ACTION_NAMES)))
        self.success = False

    def step(self, action: Float32[np.ndarray, "4"]) -> None:
        """Hold one action for a timestep; a success ends it early."""
        clipped = np.clip(action, -1.0, 1.0)
        for _ in range(_REPEATS):
            self._state, _, _, _, info = self._env.step(clipped)
            if info["success"]:
                self.success = True
                return

    def expert_action(self) -> Float32[np.ndarray, "4"]:
        """What the package's expert, who sees the goal, would do now."""
        action: np.ndarray = np.clip(self._expert.get_action(self._state), -1.0, 1.0).astype(np.float32)
        return action

    @property
    def proprioception(self) -> Float32[np.ndarray, "4"]:
        """`STATE_NAMES`."""
        return self._state[:4].astype(np.float32)

    @property
    def model(self) -> Any:
        """MuJoCo's `MjModel`; it holds the goal's position, so every world has its own."""
        return self._env.model

    @property
    def data(self) -> Any:
        """MuJoCo's `MjData`."""
        return self._env.data


_idle: dict[MetaWorldTask, list[World]] = {}
"""Worlds of this process that nobody uses: making one costs as much as simulating ten episodes."""


def borrow_world(task: MetaWorldTask) -> World:
    """A world of the task, to be reset and, at last, given back."""
    idle = _idle.setdefault(task, [])
    return idle.pop() if idle else World(task)


def give_back_world(world: World) -> None:
    _idle.setdefault(world.task, []).append(world)
