"""Meta-World as `lapa.envs.evaluation` wants a simulator."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from lapa.config.stages import MetaWorldEvaluation
from lapa.envs.metaworld.camera import camera_for
from lapa.envs.metaworld.tasks import INSTRUCTIONS
from lapa.envs.metaworld.world import ACTION_NAMES, FPS, World, borrow_world, give_back_world
from lapa.types.episodes import Frame


@dataclass(frozen=True, kw_only=True)
class MetaWorldSimulator:
    """The episodes of one evaluation; tasks take turns."""

    config: MetaWorldEvaluation
    image_size: int
    name: str = "Meta-World"
    fps: float = float(FPS)
    action_names: tuple[str, ...] = ACTION_NAMES

    @property
    def num_episodes(self) -> int:
        return self.config.episodes

    def episode(self, index: int) -> "MetaWorldEpisode":
        task = self.config.tasks[index % len(self.config.tasks)]
        episode = MetaWorldEpisode(
            config=self.config, image_size=self.image_size, seed=self.config.seed + index, world=borrow_world(task)
        )
        episode.world.reset(episode.seed)
        return episode


@dataclass(kw_only=True)
class MetaWorldEpisode:
    """One episode. Closing it gives its world to the next one."""

    config: MetaWorldEvaluation
    image_size: int
    seed: int
    world: World
    split: str | None = None
    """The package holds nothing out."""
    _steps: int = field(default=0, init=False)
    _image: Frame | None = field(default=None, init=False)

    @property
    def kind(self) -> str:
        return self.world.task

    @property
    def instruction(self) -> str:
        return INSTRUCTIONS[self.world.task]

    @property
    def image(self) -> Frame:
        if self._image is None:
            self._image = camera_for(self.world, self.config.camera, self.image_size).picture(self.world)
        return self._image

    @property
    def proprioception(self) -> Float32[np.ndarray, "4"]:
        return self.world.proprioception

    @property
    def success(self) -> bool:
        return self.world.success

    @property
    def is_over(self) -> bool:
        return self.success or self._steps >= self.config.max_steps

    def step(self, action: Float32[np.ndarray, "4"]) -> None:
        self.world.step(action)
        self._steps += 1
        self._image = None

    def expert_action(self) -> Float32[np.ndarray, "4"]:
        return self.world.expert_action()

    def close(self) -> None:
        give_back_world(self.world)
