"""One episode under way: what the Gymnasium environment and the evaluation both drive."""

import numpy as np
from jaxtyping import Float32, UInt8

from lapa.config.tabletop import Split, TabletopScene, TaskKind
from lapa.envs.tabletop.distractors import Distraction, Disturbance
from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.embodiments import Embodiment, embodiment_of
from lapa.envs.tabletop.oracle import Oracle
from lapa.envs.tabletop.rollouts import Start
from lapa.envs.tabletop.tasks import is_success
from lapa.envs.tabletop.world import State, World


class TabletopEpisode:
    """A table, a task, and how far it has come. See `lapa.envs.simulator.SimulatedEpisode`."""

    def __init__(
        self,
        start: Start,
        scene: TabletopScene,
        *,
        seed: int,
        image_size: int,
        step_limit: int,
        rng: np.random.Generator,
    ) -> None:
        self.seed, self.start, self.scene = seed, start, scene
        self._image_size, self._step_limit = image_size, step_limit
        self._embodiment: Embodiment = embodiment_of(scene.world)
        self._world = World(start.state, self._embodiment.physics)
        self._oracle = Oracle(start.task, self._embodiment.physics)
        self._distraction = distraction_of(scene, rng)
        self._disturbance = self._next_disturbance()
        self.state: State = start.state
        self.steps = 0
        self.success = False

    @property
    def kind(self) -> TaskKind:
        return self.start.cell.kind

    @property
    def split(self) -> Split | None:
        return self.start.cell.split

    @property
    def instruction(self) -> str:
        return self.start.instruction

    @property
    def image(self) -> UInt8[np.ndarray, "h w 3"]:
        return draw(self.state, self._image_size, world=self.scene.world, disturbance=self._disturbance)

    @property
    def proprioception(self) -> Float32[np.ndarray, "2"]:
        """The pusher's own position, as recordings hold it."""
        return self._embodiment.proprioception(self.state)

    @property
    def is_over(self) -> bool:
        return self.success or self.steps >= self._step_limit

    def step(self, action: np.ndarray) -> None:
        """One timestep; any action is shortened to length 1."""
        self._world.step(action)
        self.state = self._world.state
        self.steps += 1
        self.success = is_success(self.start.task, self.start.state, self.state, self._embodiment.physics)
        self._disturbance = self._next_disturbance()

    def expert_action(self) -> Float32[np.ndarray, "2"]:
        return self._oracle.act(self.state).astype(np.float32)

    def close(self) -> None:
        """Nothing to give back."""

    def _next_disturbance(self) -> Disturbance | None:
        return self._distraction.next() if self._distraction else None


def distraction_of(scene: TabletopScene, rng: np.random.Generator) -> Distraction | None:
    """What disturbs an episode's pictures in this scene; draws from `rng` only where something does."""
    if scene.distractors is None:
        return None
    return Distraction(scene.distractors, rng, embodiment_of(scene.world).fps)
