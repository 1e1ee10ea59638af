"""What a simulator provides, so that any policy can be evaluated in it in closed loop.

An adapter is two small classes: a `Simulator`, which numbers its episodes and travels to worker processes,
and a `SimulatedEpisode`, one episode at its start. `lapa.envs.evaluation` steps them, asks the policy in batches, and
counts. The tabletop's (`lapa.envs.tabletop.simulator`) is the model to copy.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from lapa.types.episodes import ActionChunk, Frame, Observation

Policy = Callable[[Sequence[Observation], Sequence[str]], Sequence[ActionChunk]]
"""Observations and their instructions, as a batch -> one action chunk each."""


class SimulatedEpisode(Protocol):
    """One episode, reset and ready. Only `step` and `close` change it."""

    @property
    def seed(self) -> int:
        """Names the initial state: policies are compared on episodes of equal seed."""

    @property
    def kind(self) -> str:
        """The kind of task, one of a few: success is also counted per kind."""

    @property
    def split(self) -> str | None:
        """What the robot's data held of this task (`seen`, `unseen-object`, …), where the simulator knows."""

    @property
    def instruction(self) -> str: ...

    @property
    def image(self) -> Frame:
        """What the camera sees now; drawn when asked for, so that who does not look does not pay."""

    @property
    def proprioception(self) -> Float32[np.ndarray, " p"] | None:
        """As recordings of this simulator hold it."""

    @property
    def success(self) -> bool:
        """Whether the task is done."""

    @property
    def is_over(self) -> bool:
        """Whether the task is done or the time is up; no step follows."""

    def step(self, action: Float32[np.ndarray, " a"]) -> None:
        """Execute one action of `Simulator.action_names`, in the units of its recordings."""

    def expert_action(self) -> Float32[np.ndarray, " a"]:
        """What the scripted expert, who sees the state, would do now."""

    def close(self) -> None:
        """Give renderers and memory back."""


class Simulator(Protocol):
    """The episodes of one evaluation. Picklable; episode `index` is the same in every process."""

    @property
    def name(self) -> str:
        """For messages: `tabletop`."""

    @property
    def num_episodes(self) -> int: ...

    @property
    def fps(self) -> float:
        """Timesteps per second."""

    @property
    def action_names(self) -> tuple[str, ...]:
        """One per action dimension."""

    def episode(self, index: int) -> SimulatedEpisode:
        """Episode `index`, reset and ready, kinds and splits in turn."""
