"""Start states: random tables on which a task is not yet done, and can be done."""

from typing import assert_never

import numpy as np

from lapa.envs.tabletop.objects import NUM_BLOCKS, BlockName, block_names
from lapa.envs.tabletop.tasks import (
    APART,
    BESIDE_MARGIN,
    DIRECTIONS,
    PUSH_ALONG,
    PushBeside,
    PushDirection,
    PushTo,
    PushToPlace,
    Reach,
    Separate,
    Task,
    beside_target,
    objects_of,
    place_target,
)
from lapa.envs.tabletop.world import BLOCK_RADIUS, STUDIO, State

_BLOCK_EDGE = 0.18
"""Block centres stay this far from the walls, so that the pusher fits behind each."""
_BLOCK_GAP = 2 * BLOCK_RADIUS + 2 * STUDIO.pusher_radius + 0.02
"""Centre distance that lets the pusher, the studio's or a smaller one, through between two blocks."""
_REACH_START, _TOGETHER_START, _PLACE_START = 0.32, 0.36, 0.25
_CLOSE_START = 2 * BLOCK_RADIUS + 0.01, 2 * BLOCK_RADIUS + 0.04
"""Centre distances at which blocks begin that are to be separated."""
_CLEAR_PATH = 2 * BLOCK_RADIUS + 0.01


def random_state(rng: np.random.Generator, task: Task, names: tuple[BlockName, ...] = block_names(4)) -> State:
    """A start state for the task: blocks apart, the pusher free, room to do what is asked.

    Four of the blocks `names` lie on the table, those that the task names among them.
    """
    if len(names) > NUM_BLOCKS:
        others = [name for name in names if name not in objects_of(task)]
        chosen = rng.permutation(len(others))[: NUM_BLOCKS - len(objects_of(task))]
        present = {*objects_of(task), *(others[i] for i in chosen)}
        names = tuple(name for name in names if name in present)
    while True:
        blocks = rng.uniform(_BLOCK_EDGE, 1 - _BLOCK_EDGE, (NUM_BLOCKS, 2))
        pusher = rng.uniform(2 * STUDIO.pusher_radius, 1 - 2 * STUDIO.pusher_radius, 2)
        angles = rng.uniform(0, 2 * np.pi, NUM_BLOCKS)
        if isinstance(task, Separate):
            blocks = _with_neighbours(rng, blocks, names.index(task.block), names.index(task.goal))
        state = State(pusher=pusher, blocks=blocks, angles=angles, names=names)
        if _is_apart(state, task) and _is_free(pusher, blocks) and _is_open(task, state):
            return state


def escapes(state: State, task: Separate) -> list[np.ndarray]:
    """Directions in which the block can be pushed away from its neighbour, and has the room for it.

    Not straight away, since the pusher does not fit between the two: to the sides, and a little away.
    """
    away = state.position(task.block) - state.position(task.goal)
    heading = float(np.arctan2(away[1], away[0]))
    ways = [np.array([np.cos(heading + turn), np.sin(heading + turn)]) for turn in np.deg2rad([60, -60, 90, -90])]
    return [way for way in ways if can_escape(state, task, way)]


def can_escape(state: State, task: Separate, way: np.ndarray) -> bool:
    """Whether pushing the block along `way` until it is apart from its neighbour meets neither wall nor block."""
    block = state.position(task.block)
    away = block - state.position(task.goal)
    along = float(away @ way)
    length = np.sqrt(max(0.0, (APART + 0.03) ** 2 - float(away @ away) + along**2)) - along
    stand, end = block - way * STUDIO.contact, block + way * length
    on_table = bool((end > BLOCK_RADIUS).all() and (end < 1 - BLOCK_RADIUS).all())
    has_stand = bool((stand > STUDIO.pusher_radius).all() and (stand < 1 - STUDIO.pusher_radius).all())
    others = [state.position(name) for name in state.names if name not in objects_of(task)]
    return on_table and has_stand and all(distance_to_segment(other, stand, end) > _CLEAR_PATH for other in others)


def _with_neighbours(rng: np.random.Generator, blocks: np.ndarray, moved: int, fixed: int) -> np.ndarray:
    """`blocks` with one of them put close to another."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(*_CLOSE_START)
    near = blocks.copy()
    near[moved] = blocks[fixed] + distance * np.array([np.cos(angle), np.sin(angle)])
    return near


def _is_apart(state: State, task: Task) -> bool:
    distances = np.linalg.norm(state.blocks[:, None] - state.blocks[None], axis=-1)
    if isinstance(task, Separate):
        moved, fixed = state.names.index(task.block), state.names.index(task.goal)
        if ((state.blocks[moved] < _BLOCK_EDGE) | (state.blocks[moved] > 1 - _BLOCK_EDGE)).any():
            return False
        distances[moved, fixed] = distances[fixed, moved] = np.inf
    return bool((distances[np.triu_indices(NUM_BLOCKS, 1)] > _BLOCK_GAP).all())


def _is_free(pusher: np.ndarray, blocks: np.ndarray) -> bool:
    return bool((np.linalg.norm(blocks - pusher, axis=1) > STUDIO.contact + 0.03).all())


def _is_open(task: Task, state: State) -> bool:
    block = state.position(task.block)
    match task:
        case Reach():
            return bool(np.linalg.norm(block - state.pusher) > _REACH_START)
        case PushDirection():
            end = block + DIRECTIONS[task.direction] * (PUSH_ALONG + BLOCK_RADIUS + 0.02)
            return bool((end > 0).all() and (end < 1).all())
        case PushTo():
            return bool(np.linalg.norm(block - state.position(task.goal)) > _TOGETHER_START)
        case PushToPlace():
            return _is_way_clear(state, task, place_target(task.place, block), _PLACE_START)
        case PushBeside():
            target = beside_target(task.side, state.position(task.goal))
            on_table = bool((target > BLOCK_RADIUS + 0.02).all() and (target < 1 - BLOCK_RADIUS - 0.02).all())
            return on_table and _is_way_clear(state, task, target, BESIDE_MARGIN + 0.1)
        case Separate():
            return bool(escapes(state, task))
        case _:
            assert_never(task)


def _is_way_clear(state: State, task: Task, target: np.ndarray, least: float) -> bool:
    """Whether the block is at least so far from its target, and no other one lies in between."""
    block = state.position(task.block)
    others = [state.position(name) for name in state.names if name != task.block]
    is_clear = all(distance_to_segment(other, block, target) > _CLEAR_PATH for other in others)
    return bool(np.linalg.norm(target - block) > least) and is_clear


def distance_to_segment(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Distance of a point from the straight way between two others, in table units."""
    line = end - start
    share = float(np.clip((point - start) @ line / max(float(line @ line), 1e-12), 0, 1))
    return float(np.linalg.norm(start + share * line - point))
