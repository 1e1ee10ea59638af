"""The tabletop as a Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, UInt8

from lapa.config.tabletop import ALL_KINDS, TabletopScene, TabletopTasks
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.episode import TabletopEpisode
from lapa.envs.tabletop.instructions import instruction_of, parse_instruction
from lapa.envs.tabletop.layouts import random_state
from lapa.envs.tabletop.objects import block_names
from lapa.envs.tabletop.rollouts import MAX_STEPS, Start, random_start
from lapa.envs.tabletop.splits import Cell
from lapa.envs.tabletop.tasks import Task, kind_of, objects_of
from lapa.envs.tabletop.world import State
from lapa.errors import ConfigError

STUDIO_SCENE = TabletopScene()


class TabletopEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Push coloured blocks as told.

    Observation: `image`, uint8 [s, s, 3], and `instruction`, text. Action: float32 [2] in [-1, 1]; in the studio
    [dx, dy], x to the right and y up; a vector longer than 1 is shortened to 1, which moves the pusher 0.04 of the
    table's width. Reward 1 when the task is done, which ends the episode; truncated after `max_steps` tenths of a
    second.

    `reset(options=...)` takes `kind` (a `TaskKind`), `instruction` (any known wording) and `wording`
    (0 for the default one). ConfigError for others, and for an instruction that names a block the scene has not.
    """

    metadata = {  # noqa: RUF012 (Gymnasium declares it so)
        "render_modes": ["rgb_array"],
        "render_fps": embodiment_of("studio").fps,
    }

    def __init__(
        self,
        image_size: int = 48,
        max_steps: int = MAX_STEPS,
        render_mode: str | None = "rgb_array",
        scene: TabletopScene = STUDIO_SCENE,
    ) -> None:
        self.image_size, self.max_steps, self.render_mode, self.scene = image_size, max_steps, render_mode, scene
        self.metadata = {**self.metadata, "render_fps": embodiment_of(scene.world).fps}
        letters = "abcdefghijklmnopqrstuvwxyz "
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                "instruction": spaces.Text(max_length=128, charset=letters),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._episode = TabletopEpisode(
            self._random_start(options or {}),
            self.scene,
            seed=seed or 0,
            image_size=self.image_size,
            step_limit=embodiment_of(self.scene.world).step_limit(self.max_steps),
            rng=self.np_random,
        )
        return self._observation(), {"success": False}

    def _random_start(self, options: dict[str, Any]) -> Start:
        rng, objects = self.np_random, self.scene.objects
        _refuse_unknown(options)
        if "instruction" in options:
            task = parse_instruction(options["instruction"])
            if absent := set(objects_of(task)) - set(block_names(objects)):
                raise ConfigError(f"A scene of {objects} objects has no {', '.join(absent)}. Set objects to 6.")
            state = random_state(rng, task, block_names(objects))
            return Start(task=task, cell=Cell(kind_of(task)), instruction=options["instruction"], state=state)
        kinds = TabletopTasks().kinds
        kind = options.get("kind") or kinds[int(rng.integers(len(kinds)))]
        start = random_start(rng, Cell(kind), objects)
        if "wording" not in options:
            return start
        wording = instruction_of(start.task, options["wording"])
        return Start(task=start.task, cell=start.cell, instruction=wording, state=start.state)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._episode.step(action)
        success = self._episode.success
        truncated = self._episode.is_over and not success
        return self._observation(), float(success), success, truncated, {"success": success}

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        return self._episode.image

    @property
    def task(self) -> Task:
        return self._episode.start.task

    @property
    def instruction(self) -> str:
        return self._episode.instruction

    @property
    def state(self) -> State:
        """Where everything is: for oracles and probes, not for policies."""
        return self._episode.state

    @property
    def proprioception(self) -> Float32[np.ndarray, "2"]:
        """The pusher's own position, as recordings hold it."""
        return self._episode.proprioception

    def _observation(self) -> dict[str, Any]:
        return {"image": self.render(), "instruction": self.instruction}


def _refuse_unknown(options: dict[str, Any]) -> None:
    if unknown := options.keys() - {"kind", "instruction", "wording"}:
        raise ConfigError(f"reset has no option {', '.join(sorted(unknown))}; it takes kind, instruction and wording.")
    if options.get("kind") not in (None, *ALL_KINDS):
        raise ConfigError(f"{options['kind']!r} is no kind of task; kinds are {', '.join(ALL_KINDS)}.")
