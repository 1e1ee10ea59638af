"""Whole episodes of the oracle, before anything is drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from lapa.envs.tabletop.layouts import random_state, random_task
from lapa.envs.tabletop.oracle import Oracle, OracleNoise
from lapa.envs.tabletop.tasks import Task, TaskKind, is_success
from lapa.envs.tabletop.world import State, World

MAX_STEPS = 80
"""Timesteps after which a task counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One episode: `states[t]` is what `actions[t]` was chosen in; one last state follows."""

    task: Task
    states: tuple[State, ...]
    actions: Float32[np.ndarray, "t 2"]
    success: bool


def oracle_rollout(
    rng: np.random.Generator, *, kind: TaskKind | None = None, noise: float = 0.0, max_steps: int = MAX_STEPS
) -> Rollout:
    """Draw a task and a table, and let the oracle work until it is done or `max_steps` have passed."""
    task = random_task(rng, kind)
    return play_oracle(task, random_state(rng, task), rng, noise=noise, max_steps=max_steps)


def play_oracle(
    task: Task, start: State, rng: np.random.Generator, *, noise: float = 0.0, max_steps: int = MAX_STEPS
) -> Rollout:
    """The oracle on a given table."""
    world, oracle, disturb = World(start), Oracle(task), OracleNoise(rng, noise)
    states, success = [start], False
    actions: list[np.ndarray] = []
    while not success and len(actions) < max_steps:
        # Rounded before it is executed: the recording says exactly what was done.
        action = disturb.add(oracle.act(states[-1])).astype(np.float32)
        world.step(action)
        actions.append(action)
        states.append(world.state)
        success = is_success(task, start, states[-1])
    return Rollout(task=task, states=tuple(states), actions=np.stack(actions), success=success)
