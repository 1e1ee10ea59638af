"""The tabletop's episodes for evaluation, and for whoever wants to look at one."""

from dataclasses import dataclass

import numpy as np

from lapa.config.stages import TabletopEvaluation
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.episode import TabletopEpisode
from lapa.envs.tabletop.rollouts import random_start
from lapa.envs.tabletop.splits import cells


@dataclass(frozen=True)
class TabletopSimulator:
    """See `lapa.envs.simulator.Simulator`: episode `i` has its own seed, and kinds and splits take turns."""

    config: TabletopEvaluation
    image_size: int = 48

    name = "tabletop"

    @property
    def num_episodes(self) -> int:
        return self.config.episodes

    @property
    def fps(self) -> float:
        return embodiment_of(self.config.scene.world).fps

    @property
    def action_names(self) -> tuple[str, ...]:
        return embodiment_of(self.config.scene.world).robot.action_names

    def episode(self, index: int) -> TabletopEpisode:
        config, scene = self.config, self.config.scene
        asked = cells(config.tasks, scene.objects)
        seed = config.seed + index
        rng = np.random.default_rng(seed)
        return TabletopEpisode(
            random_start(rng, asked[index % len(asked)], scene.objects, config.tasks.wordings),
            scene,
            seed=seed,
            image_size=self.image_size,
            step_limit=embodiment_of(scene.world).step_limit(config.max_steps),
            rng=rng,
        )
