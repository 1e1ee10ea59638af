"""The tabletop as a Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, UInt8

from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.layouts import random_state, random_task
from lapa.envs.tabletop.rollouts import MAX_STEPS
from lapa.envs.tabletop.tasks import Task, instruction_of, is_success, parse_instruction
from lapa.envs.tabletop.world import State, World

FPS = 10
"""Timesteps per second, by definition: a window of 0.3 s is 3 timesteps."""
ACTION_NAMES = ("dx", "dy")


class TabletopEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Push coloured blocks as told.

    Observation: `image`, uint8 [s, s, 3], and `instruction`, text. Action: float32 [dx, dy] in [-1, 1], x to
    the right and y up; a vector longer than 1 is shortened to 1, which moves the pusher 0.04 of the table's
    width. Reward 1 when the task is done, which ends the episode; truncated after `max_steps`.

    `reset(options=...)` takes `kind` (one of `TASK_KINDS`), `instruction` (any known wording) and `wording`
    (0 for the default one).
    """

    metadata = {  # noqa: RUF012 (Gymnasium declares it so)
        "render_modes": ["rgb_array"],
        "render_fps": FPS,
    }

    def __init__(self, image_size: int = 48, max_steps: int = MAX_STEPS, render_mode: str | None = "rgb_array") -> None:
        self.image_size = image_size
        self.max_steps = max_steps
        self.render_mode = render_mode
        letters = "abcdefghijklmnopqrstuvwxyz "
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                "instruction": spaces.Text(max_length=128, charset=letters),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        self.task: Task = (
            parse_instruction(options["instruction"])
            if "instruction" in options
            else random_task(self.np_random, options.get("kind"))
        )
        self.instruction = options.get("instruction") or instruction_of(self.task, options.get("wording", 0))
        self._start = self._state = random_state(self.np_random, self.task)
        self._world = World(self._start)
        self._steps = 0
        return self._observation(), {"success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._world.step(action)
        self._state = self._world.state
        self._steps += 1
        success = is_success(self.task, self._start, self._state)
        return self._observation(), float(success), success, self._steps >= self.max_steps, {"success": success}

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        return draw(self._state, self.image_size)

    @property
    def state(self) -> State:
        """Where everything is: for oracles and probes, not for policies."""
        return self._state

    @property
    def proprioception(self) -> Float32[np.ndarray, "2"]:
        """The pusher's own position, as recordings hold it."""
        return self._state.pusher.astype(np.float32)

    def _observation(self) -> dict[str, Any]:
        return {"image": self.render(), "instruction": self.instruction}
