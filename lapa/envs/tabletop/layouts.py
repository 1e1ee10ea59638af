"""Start states: random tables on which a task is not yet done, and can be done."""

from typing import assert_never

import numpy as np

from lapa.envs.tabletop.tasks import (
    DIRECTIONS,
    PUSH_ALONG,
    TASK_KINDS,
    TASKS,
    PushDirection,
    PushTo,
    Reach,
    Task,
    TaskKind,
    block_index,
)
from lapa.envs.tabletop.world import BLOCK_RADIUS, CONTACT, NUM_BLOCKS, PUSHER_RADIUS, State

_BLOCK_EDGE = 0.18
"""Block centres stay this far from the walls, so that the pusher fits behind each."""
_BLOCK_GAP = 2 * BLOCK_RADIUS + 2 * PUSHER_RADIUS + 0.02
"""Centre distance that lets the pusher through between two blocks."""
_REACH_START, _TOGETHER_START = 0.32, 0.36


def random_task(rng: np.random.Generator, kind: TaskKind | None = None) -> Task:
    """A task of the kind, or of any kind with equal chances."""
    tasks = TASKS[kind or TASK_KINDS[int(rng.integers(len(TASK_KINDS)))]]
    return tasks[int(rng.integers(len(tasks)))]


def random_state(rng: np.random.Generator, task: Task) -> State:
    """A start state for the task: blocks apart, the pusher free, room to do what is asked."""
    while True:
        blocks = rng.uniform(_BLOCK_EDGE, 1 - _BLOCK_EDGE, (NUM_BLOCKS, 2))
        pusher = rng.uniform(2 * PUSHER_RADIUS, 1 - 2 * PUSHER_RADIUS, 2)
        angles = rng.uniform(0, 2 * np.pi, NUM_BLOCKS)
        if _is_apart(blocks) and _is_free(pusher, blocks) and _is_open(task, pusher, blocks):
            return State(pusher=pusher, blocks=blocks, angles=angles)


def _is_apart(blocks: np.ndarray) -> bool:
    distances = np.linalg.norm(blocks[:, None] - blocks[None], axis=-1)
    return bool((distances[np.triu_indices(NUM_BLOCKS, 1)] > _BLOCK_GAP).all())


def _is_free(pusher: np.ndarray, blocks: np.ndarray) -> bool:
    return bool((np.linalg.norm(blocks - pusher, axis=1) > CONTACT + 0.03).all())


def _is_open(task: Task, pusher: np.ndarray, blocks: np.ndarray) -> bool:
    block = blocks[block_index(task.block)]
    match task:
        case Reach():
            return bool(np.linalg.norm(block - pusher) > _REACH_START)
        case PushDirection():
            end = block + DIRECTIONS[task.direction] * (PUSH_ALONG + BLOCK_RADIUS + 0.02)
            return bool((end > 0).all() and (end < 1).all())
        case PushTo():
            return bool(np.linalg.norm(block - blocks[block_index(task.goal)]) > _TOGETHER_START)
        case _:
            assert_never(task)
