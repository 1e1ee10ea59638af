"""What can be asked for in words, and when it has been done."""

from dataclasses import dataclass
from itertools import permutations
from typing import Literal, assert_never, get_args

import numpy as np

from lapa.envs.tabletop.world import BLOCK_RADIUS, CONTACT, State
from lapa.errors import ConfigError

BlockName = Literal["red circle", "blue square", "green triangle", "yellow star"]
BLOCK_NAMES: tuple[BlockName, ...] = get_args(BlockName)
Direction = Literal["left", "right", "up", "down"]
DIRECTIONS: dict[Direction, np.ndarray] = {
    "left": np.array([-1.0, 0.0]),
    "right": np.array([1.0, 0.0]),
    "up": np.array([0.0, 1.0]),
    "down": np.array([0.0, -1.0]),
}

REACH_MARGIN = 0.02
"""Reaching is being this close to touching."""
PUSH_ALONG, PUSH_ACROSS = 0.18, 0.15
"""A push moves the block at least this far along the direction, and less than this across it."""
TOGETHER = 2 * BLOCK_RADIUS + 0.03
"""Two blocks this close, centre to centre, are together."""


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


Task = Reach | PushDirection | PushTo
TaskKind = Literal["reach", "push-direction", "push-to"]

TASKS: dict[TaskKind, tuple[Task, ...]] = {
    "reach": tuple(Reach(block) for block in BLOCK_NAMES),
    "push-direction": tuple(PushDirection(block, way) for block in BLOCK_NAMES for way in DIRECTIONS),
    "push-to": tuple(PushTo(block, goal) for block, goal in permutations(BLOCK_NAMES, 2)),
}
TASK_KINDS: tuple[TaskKind, ...] = tuple(TASKS)

WORDINGS: dict[TaskKind, tuple[str, ...]] = {
    "reach": ("reach the {block}", "go to the {block}", "move to the {block}", "touch the {block}"),
    "push-direction": (
        "push the {block} {direction}",
        "move the {block} {direction}",
        "slide the {block} {direction}",
        "shove the {block} {direction}",
    ),
    "push-to": (
        "push the {block} to the {goal}",
        "bring the {block} to the {goal}",
        "slide the {block} next to the {goal}",
        "put the {block} beside the {goal}",
    ),
}
"""The first wording of each kind is the one that recordings and evaluations use."""


def kind_of(task: Task) -> TaskKind:
    match task:
        case Reach():
            return "reach"
        case PushDirection():
            return "push-direction"
        case PushTo():
            return "push-to"
        case _:
            assert_never(task)


def instruction_of(task: Task, wording: int = 0) -> str:
    """The task in English; other wordings are paraphrases."""
    wordings = WORDINGS[kind_of(task)]
    return wordings[wording % len(wordings)].format(**vars(task))


_TASK_OF = {
    instruction_of(task, wording): task
    for kind, tasks in TASKS.items()
    for task in tasks
    for wording in range(len(WORDINGS[kind]))
}


def parse_instruction(text: str) -> Task:
    """The task that an instruction asks for; `ConfigError` when no wording fits."""
    task = _TASK_OF.get(" ".join(text.lower().strip(" .!").split()))
    if task is None:
        raise ConfigError(
            f"The tabletop does not understand {text!r}. Say it like {sorted(_TASK_OF)[0]!r}; "
            f"blocks are {', '.join(BLOCK_NAMES)}."
        )
    return task


def block_index(name: BlockName) -> int:
    """Row of a block in `State.blocks`."""
    return BLOCK_NAMES.index(name)


def is_success(task: Task, start: State, now: State) -> bool:
    """Whether the task, begun at `start`, is done at `now`."""
    block = now.blocks[block_index(task.block)]
    match task:
        case Reach():
            return bool(np.linalg.norm(block - now.pusher) < CONTACT + REACH_MARGIN)
        case PushDirection():
            moved = block - start.blocks[block_index(task.block)]
            way = DIRECTIONS[task.direction]
            across = abs(float(moved @ way[::-1]))
            return float(moved @ way) > PUSH_ALONG and across < PUSH_ACROSS
        case PushTo():
            return bool(np.linalg.norm(block - now.blocks[block_index(task.goal)]) < TOGETHER)
        case _:
            assert_never(task)
