"""What can be asked for, and when it has been done."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Literal, assert_never, get_args

import numpy as np

from lapa.config.tabletop import TaskKind
from lapa.envs.tabletop.objects import BlockName, block_names
from lapa.envs.tabletop.world import BLOCK_RADIUS, STUDIO, Physics, State

Direction = Literal["left", "right", "up", "down"]
DIRECTIONS: dict[Direction, np.ndarray] = {
    "left": np.array([-1.0, 0.0]),
    "right": np.array([1.0, 0.0]),
    "up": np.array([0.0, 1.0]),
    "down": np.array([0.0, -1.0]),
}
Place = Literal[
    "centre",
    "top left corner",
    "top right corner",
    "bottom left corner",
    "bottom right corner",
    "left side",
    "right side",
    "top side",
    "bottom side",
]
PLACES: tuple[Place, ...] = get_args(Place)
Side = Literal["left of", "right of", "above", "below"]
SIDES: dict[Side, np.ndarray] = {
    "left of": DIRECTIONS["left"],
    "right of": DIRECTIONS["right"],
    "above": DIRECTIONS["up"],
    "below": DIRECTIONS["down"],
}

REACH_MARGIN = 0.02
"""Reaching is being this close to touching."""
PUSH_ALONG, PUSH_ACROSS = 0.18, 0.15
"""A push moves the block at least this far along the direction, and less than this across it."""
TOGETHER = 2 * BLOCK_RADIUS + 0.03
"""Two blocks this close, centre to centre, are together."""
AT_CENTRE = 0.1
"""A block this close to the table's centre is there."""
AT_SIDE, IN_CORNER = 0.2, 0.25
"""A block this close to a wall is at its side, and this close to two walls in their corner."""
BESIDE = 2 * BLOCK_RADIUS + 0.05
"""Centre distance of a block that lies beside another one."""
BESIDE_MARGIN = 0.07
"""How far from that spot it may lie."""
APART = 0.28
"""Two blocks this far from each other, centre to centre, are apart."""


@dataclass(frozen=True)
class Reach:
    """Bring the pusher to a block."""

    block: BlockName


@dataclass(frozen=True)
class PushDirection:
    """Push a block a good way in one direction."""

    block: BlockName
    direction: Direction


@dataclass(frozen=True)
class PushTo:
    """Push a block to another block."""

    block: BlockName
    goal: BlockName


@dataclass(frozen=True)
class PushToPlace:
    """Push a block to a place on the table."""

    block: BlockName
    place: Place


@dataclass(frozen=True)
class PushBeside:
    """Push a block to one side of another block."""

    block: BlockName
    side: Side
    goal: BlockName


@dataclass(frozen=True)
class Separate:
    """Move a block away from another one that it begins close to."""

    block: BlockName
    goal: BlockName


Task = Reach | PushDirection | PushTo | PushToPlace | PushBeside | Separate


@lru_cache
def tasks_of(kind: TaskKind, objects: int = 4) -> tuple[Task, ...]:
    """Every task of a kind, with so many kinds of objects."""
    names = block_names(objects)
    match kind:
        case "reach":
            return tuple(Reach(block) for block in names)
        case "push-direction":
            return tuple(PushDirection(block, way) for block in names for way in DIRECTIONS)
        case "push-to":
            return tuple(PushTo(block, goal) for block, goal in permutations(names, 2))
        case "push-to-place":
            return tuple(PushToPlace(block, place) for block in names for place in PLACES)
        case "push-beside":
            return tuple(PushBeside(block, side, goal) for block, goal in permutations(names, 2) for side in SIDES)
        case "separate":
            return tuple(Separate(block, goal) for block, goal in permutations(names, 2))
        case _:
            assert_never(kind)


def kind_of(task: Task) -> TaskKind:
    match task:
        case Reach():
            return "reach"
        case PushDirection():
            return "push-direction"
        case PushTo():
            return "push-to"
        case PushToPlace():
            return "push-to-place"
        case PushBeside():
            return "push-beside"
        case Separate():
            return "separate"
        case _:
            assert_never(task)


def objects_of(task: Task) -> tuple[BlockName, ...]:
    """The blocks that a task names, the one to be moved first."""
    match task:
        case Reach() | PushDirection() | PushToPlace():
            return (task.block,)
        case PushTo() | PushBeside() | Separate():
            return task.block, task.goal
        case _:
            assert_never(task)


def place_target(place: Place, block: np.ndarray) -> np.ndarray:
    """Where a block at `block` is best pushed to, a little beyond the edge of what counts."""
    low, high = 0.6 * AT_SIDE, 1 - 0.6 * AT_SIDE
    x = low if "left" in place else high if "right" in place else None
    y = low if "bottom" in place else high if "top" in place else None
    if place == "centre":
        return np.array([0.5, 0.5])
    return np.array([block[0] if x is None else x, block[1] if y is None else y])


def beside_target(side: Side, goal: np.ndarray) -> np.ndarray:
    """The spot beside a block at `goal`."""
    target: np.ndarray = goal + BESIDE * SIDES[side]
    return target


def is_success(task: Task, start: State, now: State, physics: Physics = STUDIO) -> bool:
    """Whether the task, begun at `start`, is done at `now`."""
    block = now.position(task.block)
    match task:
        case Reach():
            return _distance(block, now.pusher) < physics.contact + REACH_MARGIN
        case PushDirection():
            moved = block - start.position(task.block)
            way = DIRECTIONS[task.direction]
            across = abs(float(moved @ way[::-1]))
            return float(moved @ way) > PUSH_ALONG and across < PUSH_ACROSS
        case PushTo():
            return _distance(block, now.position(task.goal)) < TOGETHER
        case PushToPlace():
            return _is_at(task.place, block)
        case PushBeside():
            return _distance(block, beside_target(task.side, now.position(task.goal))) < BESIDE_MARGIN
        case Separate():
            return _distance(block, now.position(task.goal)) > APART
        case _:
            assert_never(task)


def _is_at(place: Place, block: np.ndarray) -> bool:
    if place == "centre":
        return _distance(block, np.array([0.5, 0.5])) < AT_CENTRE
    reach = IN_CORNER if "corner" in place else AT_SIDE
    to_wall = {"left": block[0], "right": 1 - block[0], "bottom": block[1], "top": 1 - block[1]}
    return all(distance < reach for word, distance in to_wall.items() if word in place.split())


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second))
