"""What the robot's data leaves out, so that evaluation can ask for it: objects, combinations, wordings.

A fixed rule, not a draw: it is the same in every recording and evaluation, whatever their seeds.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from lapa.config.tabletop import Split, TabletopTasks, TaskKind
from lapa.envs.tabletop.instructions import HELD_OUT_WORDINGS, WORDINGS
from lapa.envs.tabletop.objects import HELD_OUT_BLOCKS, BlockName, block_names
from lapa.envs.tabletop.tasks import (
    DIRECTIONS,
    PLACES,
    SIDES,
    PushBeside,
    PushDirection,
    PushTo,
    PushToPlace,
    Reach,
    Separate,
    Task,
    objects_of,
    tasks_of,
)


@dataclass(frozen=True)
class Cell:
    """One kind of task in one split; without a split, everything of the kind."""

    kind: TaskKind
    split: Split | None = None

    def tasks(self, objects: int) -> tuple[Task, ...]:
        """The tasks of the cell, with so many kinds of objects."""
        return tuple(task for task in tasks_of(self.kind, objects) if self.split is None or _holds(self.split, task))

    def wordings(self) -> range:
        """Numbers of the wordings that the cell uses."""
        count = len(WORDINGS[self.kind])
        match self.split:
            case None:
                return range(count)
            case "unseen-wording":
                return range(count - HELD_OUT_WORDINGS, count)
            case "seen" | "unseen-object" | "unseen-combination":
                return range(count - HELD_OUT_WORDINGS)
            case _:
                assert_never(self.split)

    def blocks(self, objects: int) -> tuple[BlockName, ...]:
        """The blocks that may lie on the table. Of six, the held-out ones are not even seen where tasks are seen."""
        names = block_names(objects)
        seen = tuple(name for name in names if name not in HELD_OUT_BLOCKS)
        return names if self.split in (None, "unseen-object") or objects == 4 else seen


@lru_cache
def cells(tasks: TabletopTasks, objects: int) -> tuple[Cell, ...]:
    """What episodes take turns in: every kind in every split that has tasks of the kind."""
    wanted = [Cell(kind, split) for kind in tasks.kinds for split in tasks.splits or (None,)]
    return tuple(cell for cell in wanted if cell.tasks(objects))


def is_held_out_combination(task: Task) -> bool:
    """About a quarter of every kind's combinations of an object with what is to be done with it.

    Diagonals of the table of blocks by arguments: each block, and each argument, is still seen with others.
    """
    if isinstance(task, Reach):
        return False
    return (_seen_rank(task.block) + _argument_rank(task)) % 4 == 1


def _holds(split: Split, task: Task) -> bool:
    names_held_out = any(name in HELD_OUT_BLOCKS for name in objects_of(task))
    match split:
        case "seen" | "unseen-wording":
            return not names_held_out and not is_held_out_combination(task)
        case "unseen-object":
            return names_held_out
        case "unseen-combination":
            return not names_held_out and is_held_out_combination(task)
        case _:
            assert_never(split)


def _argument_rank(task: PushDirection | PushTo | PushToPlace | PushBeside | Separate) -> int:
    match task:
        case PushDirection():
            return tuple(DIRECTIONS).index(task.direction)
        case PushTo() | Separate():
            return _seen_rank(task.goal)
        case PushToPlace():
            return PLACES.index(task.place)
        case PushBeside():
            return tuple(SIDES).index(task.side)
        case _:
            assert_never(task)


def _seen_rank(block: BlockName) -> int:
    """Position among the blocks that are not held out; held-out ones come after them."""
    names = block_names(6)
    return sorted(names, key=lambda name: (name in HELD_OUT_BLOCKS, names.index(name))).index(block)
