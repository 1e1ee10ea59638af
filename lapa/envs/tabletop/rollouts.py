"""Whole episodes of the oracle, before anything is drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from lapa.config.tabletop import TabletopTasks
from lapa.envs.tabletop.instructions import instruction_of
from lapa.envs.tabletop.layouts import random_state
from lapa.envs.tabletop.oracle import Oracle, OracleNoise
from lapa.envs.tabletop.splits import Cell
from lapa.envs.tabletop.tasks import Task, is_success
from lapa.envs.tabletop.world import STUDIO, Physics, State, World

MAX_STEPS = 80
"""Timesteps of a tenth of a second after which a task counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What an episode begins with."""

    task: Task
    cell: Cell
    instruction: str
    state: State


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One episode: `states[t]` is what `actions[t]` was chosen in; one last state follows."""

    start: Start
    states: tuple[State, ...]
    actions: Float32[np.ndarray, "t 2"]
    success: bool


def random_start(
    rng: np.random.Generator, cell: Cell, objects: int = 4, wordings: str = TabletopTasks().wordings
) -> Start:
    """A task of the cell, a table on which it can be done, and words for it."""
    tasks = cell.tasks(objects)
    task = tasks[int(rng.integers(len(tasks)))]
    state = random_state(rng, task, cell.blocks(objects))
    allowed = cell.wordings()
    wording = allowed[0] if wordings == "first" else allowed[int(rng.integers(len(allowed)))]
    return Start(task=task, cell=cell, instruction=instruction_of(task, wording), state=state)


def play_oracle(
    start: Start,
    rng: np.random.Generator,
    *,
    physics: Physics = STUDIO,
    noise: float = 0.0,
    max_steps: int = MAX_STEPS,
) -> Rollout:
    """The oracle on a given table, until the task is done or `max_steps` timesteps have passed."""
    world, oracle, disturb = World(start.state, physics), Oracle(start.task, physics), OracleNoise(rng, noise)
    states, success = [start.state], False
    actions: list[np.ndarray] = []
    while not success and len(actions) < max_steps:
        # Rounded before it is executed: the recording says exactly what was done.
        action = disturb.add(oracle.act(states[-1])).astype(np.float32)
        world.step(action)
        actions.append(action)
        states.append(world.state)
        success = is_success(start.task, start.state, states[-1], physics)
    return Rollout(start=start, states=tuple(states), actions=np.stack(actions), success=success)
