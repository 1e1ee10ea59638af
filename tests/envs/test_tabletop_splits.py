"""What is held out of the robot's data: objects, combinations, wordings."""

from collections import Counter

import numpy as np
import pytest

from lapa.config.tabletop import ALL_KINDS, SPLITS, TabletopTasks, TaskKind
from lapa.envs.tabletop.instructions import HELD_OUT_WORDINGS, WORDINGS
from lapa.envs.tabletop.objects import HELD_OUT_BLOCKS
from lapa.envs.tabletop.rollouts import random_start
from lapa.envs.tabletop.splits import Cell, cells
from lapa.envs.tabletop.tasks import objects_of, tasks_of


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("objects", [4, 6])
def test_every_task_is_in_one_split(kind: TaskKind, objects: int):
    held = [Cell(kind, split).tasks(objects) for split in ("seen", "unseen-object", "unseen-combination")]
    assert sorted(map(repr, sum(held, ()))) == sorted(map(repr, tasks_of(kind, objects)))
    assert Cell(kind, "unseen-wording").tasks(objects) == held[0]
    assert Cell(kind).tasks(objects) == tasks_of(kind, objects)


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind != "reach"])
@pytest.mark.parametrize("objects", [4, 6])
def test_about_a_quarter_of_the_combinations_is_held_out_and_no_block_or_argument_wholly(kind: TaskKind, objects: int):
    seen, unseen = (Cell(kind, split).tasks(objects) for split in ("seen", "unseen-combination"))
    assert 0.2 < len(unseen) / (len(seen) + len(unseen)) < 0.34
    for field in ("block", "goal", "direction", "place", "side"):
        assert {getattr(task, field, None) for task in unseen} <= {getattr(task, field, None) for task in seen}


def test_held_out_objects_are_named_only_where_they_are_asked_for():
    for kind in ALL_KINDS:
        for objects in (4, 6):
            named = {name for task in Cell(kind, "seen").tasks(objects) for name in objects_of(task)}
            assert not named & set(HELD_OUT_BLOCKS)
            assert all(set(objects_of(t)) & set(HELD_OUT_BLOCKS) for t in Cell(kind, "unseen-object").tasks(objects))


def test_of_six_objects_the_held_out_ones_do_not_even_lie_on_the_table_of_seen_tasks():
    rng = np.random.default_rng(0)
    tables = [random_start(rng, Cell("push-to", "seen"), 6).state.names for _ in range(10)]
    assert not any(set(names) & set(HELD_OUT_BLOCKS) for names in tables)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_last_wordings_are_held_out(kind: TaskKind):
    count = len(WORDINGS[kind])
    assert Cell(kind, "unseen-wording").wordings() == range(count - HELD_OUT_WORDINGS, count)
    assert Cell(kind, "seen").wordings() == range(count - HELD_OUT_WORDINGS)
    assert Cell(kind).wordings() == range(count)
    rng = np.random.default_rng(0)
    words = {random_start(rng, Cell(kind, "seen"), 4, "any").instruction for _ in range(300)}
    assert words <= {w.format(**vars(t)) for w in WORDINGS[kind][:-2] for t in Cell(kind, "seen").tasks(4)}
    assert len(words) > len(Cell(kind, "seen").tasks(4))


def test_kinds_and_splits_take_turns_where_there_are_such_tasks():
    turns = cells(TabletopTasks(kinds=ALL_KINDS, splits=SPLITS), 4)
    assert Counter(cell.kind for cell in turns) == {**dict.fromkeys(ALL_KINDS, 4), "reach": 3}
    for tasks in (TabletopTasks(kinds=ALL_KINDS, splits=SPLITS), TabletopTasks(splits=("unseen-combination",))):
        assert {len(cells(tasks, objects)) for objects in (4, 6)} == {tasks.num_cells}
    assert TabletopTasks().num_cells == 3
    assert cells(TabletopTasks(), 4) == (Cell("reach"), Cell("push-direction"), Cell("push-to"))
