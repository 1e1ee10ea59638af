"""Physics, tasks, oracle and drawing of the tabletop."""

import numpy as np
import pytest

from lapa.config.tabletop import ALL_KINDS, SPLITS, Split, TabletopTasks, TaskKind, WorldName
from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.instructions import WORDINGS, instruction_of, parse_instruction
from lapa.envs.tabletop.rollouts import Rollout, play_oracle, random_start
from lapa.envs.tabletop.splits import Cell, cells
from lapa.envs.tabletop.tasks import (
    PushBeside,
    PushDirection,
    PushTo,
    PushToPlace,
    Reach,
    Separate,
    is_success,
    kind_of,
    tasks_of,
)
from lapa.envs.tabletop.world import BLOCK_RADIUS, STUDIO, State, World
from lapa.errors import ConfigError

CONTACT, PUSHER_RADIUS, MAX_STEP = STUDIO.contact, STUDIO.pusher_radius, STUDIO.max_step

CORNERS = np.array([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]])
LEFT, RIGHT = np.array([-1.0, 0.0]), np.array([1.0, 0.0])


def table(pusher: tuple[float, float], blocks: np.ndarray = CORNERS) -> State:
    return State(pusher=np.array(pusher), blocks=blocks.copy(), angles=np.zeros(4))


def moved(state: State, block: int, by: tuple[float, float]) -> State:
    blocks = state.blocks.copy()
    blocks[block] += by
    return State(pusher=state.pusher, blocks=blocks, angles=state.angles)


def oracle_rollout(seed: int, cell: Cell, world: WorldName = "studio", objects: int = 4, noise: float = 0.0) -> Rollout:
    rng, embodiment = np.random.default_rng((5, seed)), embodiment_of(world)
    start = random_start(rng, cell, objects, "any")
    limit = embodiment.step_limit(80)
    return play_oracle(start, rng, physics=embodiment.physics, noise=noise, max_steps=limit)


def test_a_step_moves_the_pusher_as_far_as_the_action_says():
    world = World(table((0.5, 0.5)))
    world.step(np.array([0.5, -0.25]))
    np.testing.assert_allclose(world.state.pusher, [0.5 + 0.5 * MAX_STEP, 0.5 - 0.25 * MAX_STEP], atol=1e-9)


def test_no_action_moves_further_than_the_longest_step():
    world = World(table((0.5, 0.5)))
    world.step(np.array([1.0, 1.0]))
    assert np.linalg.norm(world.state.pusher - 0.5) == pytest.approx(MAX_STEP)


def test_a_push_moves_only_the_pushed_block_and_it_stops_with_the_pusher():
    start = table((0.2 + CONTACT + 0.01, 0.2))
    world = World(start)
    for _ in range(2):
        world.step(0.5 * LEFT)
    pushed = world.state
    assert pushed.blocks[0, 0] < 0.2 - 0.02
    assert pushed.blocks[0, 1] == pytest.approx(0.2)
    np.testing.assert_allclose(pushed.blocks[1:], start.blocks[1:])
    world.step(np.zeros(2))
    np.testing.assert_allclose(world.state.blocks, pushed.blocks, atol=2e-3)


def test_walls_contain_everything_whatever_is_done():
    rng = np.random.default_rng(0)
    for _ in range(5):
        world = World(random_start(rng, Cell("push-to")).state)
        for _ in range(30):
            direction = rng.normal(size=2)
            for _ in range(10):
                world.step(direction * 10)
            state = world.state
            assert (state.pusher > PUSHER_RADIUS - 0.02).all() and (state.pusher < 1 - PUSHER_RADIUS + 0.02).all()
            assert (state.blocks > BLOCK_RADIUS - 0.02).all() and (state.blocks < 1 - BLOCK_RADIUS + 0.02).all()


def test_four_objects_make_32_tasks_by_default_and_128_in_all():
    assert sum(len(tasks_of(kind)) for kind in TabletopTasks().kinds) == 4 + 16 + 12
    assert sum(len(tasks_of(kind)) for kind in ALL_KINDS) == 32 + 36 + 48 + 12


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_wording_means_its_task_and_no_other(kind: TaskKind):
    assert len(WORDINGS[kind]) >= 4
    for task in tasks_of(kind, 6):
        for wording in range(len(WORDINGS[kind])):
            assert parse_instruction(instruction_of(task, wording)) == task
    assert instruction_of(PushTo("red circle", "blue square")) == "push the red circle to the blue square"


def test_an_unknown_instruction_is_refused_with_an_example():
    with pytest.raises(ConfigError, match=r"does not understand 'juggle'.*Say it like"):
        parse_instruction("juggle")


def test_reaching_is_almost_touching():
    near, far = table((0.2 + CONTACT + 0.019, 0.2)), table((0.2 + CONTACT + 0.021, 0.2))
    assert is_success(Reach("red circle"), far, near)
    assert not is_success(Reach("red circle"), near, far)
    assert not is_success(Reach("blue square"), far, near)


@pytest.mark.parametrize(
    ("by", "expected"), [((0.19, 0.0), True), ((0.17, 0.0), False), ((0.19, 0.16), False), ((-0.19, 0.0), False)]
)
def test_a_push_goes_far_enough_along_and_not_across(by: tuple[float, float], expected: bool):
    start = table((0.5, 0.5))
    assert is_success(PushDirection("red circle", "right"), start, moved(start, 0, by)) is expected


def test_pushing_to_brings_two_blocks_together():
    start = table((0.5, 0.5))
    together = moved(start, 0, (0.43, 0.0))
    assert is_success(PushTo("red circle", "blue square"), start, together)
    assert not is_success(PushTo("red circle", "green triangle"), start, together)
    assert not is_success(PushTo("red circle", "blue square"), start, moved(start, 0, (0.41, 0.0)))


def test_a_place_is_a_corner_a_side_or_the_centre():
    start = table((0.5, 0.5))
    at = {
        "centre": moved(start, 0, (0.25, 0.25)),
        "left side": moved(start, 0, (-0.05, 0.3)),
        "top left corner": moved(start, 0, (-0.02, 0.6)),
    }
    for place in ("centre", "left side", "top left corner"):
        task = PushToPlace("red circle", place)
        assert [name for name, state in at.items() if is_success(task, start, state)] == (
            ["left side", "top left corner"] if place == "left side" else [place]
        )


def test_beside_means_near_and_on_the_side_that_was_named():
    start = table((0.5, 0.5))
    left_of_blue, above_blue = moved(start, 0, (0.4, 0.0)), moved(start, 0, (0.6, 0.2))
    assert is_success(PushBeside("red circle", "left of", "blue square"), start, left_of_blue)
    assert not is_success(PushBeside("red circle", "left of", "blue square"), start, above_blue)
    assert is_success(PushBeside("red circle", "above", "blue square"), start, above_blue)
    assert not is_success(PushBeside("red circle", "right of", "blue square"), start, left_of_blue)


def test_blocks_that_begin_close_are_separate_when_they_are_far_enough():
    task = Separate("red circle", "blue square")
    start = moved(table((0.5, 0.5)), 0, (0.43, 0.0))
    assert not is_success(task, start, start)
    assert not is_success(task, start, moved(start, 0, (-0.10, 0.0)))
    assert is_success(task, start, moved(start, 0, (-0.12, 0.0)))


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("objects", [4, 6])
def test_no_task_is_done_at_the_start_and_its_objects_are_on_the_table(kind: TaskKind, objects: int):
    rng = np.random.default_rng(1)
    for _ in range(60):
        start = random_start(rng, Cell(kind), objects)
        assert kind_of(start.task) == kind and not is_success(start.task, start.state, start.state)
        assert start.task.block in start.state.names and len(set(start.state.names)) == 4


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("world", ["studio", "workshop"])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_oracle_succeeds(kind: TaskKind, world: WorldName, noise: float):
    rollouts = [oracle_rollout(i, Cell(kind), world, noise=noise) for i in range(60)]
    assert np.mean([rollout.success for rollout in rollouts]) > 0.95


@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_succeeds_in_every_split_of_six_objects(split: Split):
    """With the noise that recordings have, in the world whose actions are turned."""
    asked = cells(TabletopTasks(kinds=ALL_KINDS, splits=(split,)), 6)
    rollouts = [oracle_rollout(i, asked[i % len(asked)], "workshop", 6, noise=0.2) for i in range(60)]
    assert np.mean([rollout.success for rollout in rollouts]) > 0.95


def test_a_rollout_is_the_same_bit_for_bit_and_its_actions_replay_it():
    first, second = (oracle_rollout(3, Cell("push-to"), noise=0.2) for _ in range(2))
    np.testing.assert_array_equal(first.actions, second.actions)
    world = World(first.states[0])
    for action, expected in zip(first.actions, second.states[1:], strict=True):
        world.step(action)
        np.testing.assert_array_equal(draw(world.state, 48), draw(expected, 48))


def test_an_action_of_the_workshop_moves_elsewhere_and_further_than_in_the_studio():
    workshop = embodiment_of("workshop")
    action = np.array([1.0, 0.0])
    moves = []
    for physics in (STUDIO, workshop.physics):
        world = World(table((0.5, 0.5)), physics)
        world.step(action)
        moves.append(world.state.pusher - 0.5)
        assert np.linalg.norm(moves[-1]) == pytest.approx(physics.max_step)
        np.testing.assert_allclose(physics.action_of(moves[-1]) / physics.max_step, action, atol=1e-12)
    assert float(moves[0] @ moves[1]) < 0 and np.linalg.norm(moves[1]) > np.linalg.norm(moves[0])
    assert workshop.fps == 5 and workshop.step_limit(80) == 40


def test_every_block_and_the_pusher_are_seen_where_they_are():
    image = draw(table((0.5, 0.5)), 48).astype(int)
    colors = {
        "red": (image[..., 0] > 180) & (image[..., 1] < 100),
        "blue": (image[..., 2] > 180) & (image[..., 0] < 100),
        "green": (image[..., 1] > 150) & (image[..., 0] < 100),
        "yellow": (image[..., 0] > 200) & (image[..., 1] > 180) & (image[..., 2] < 100),
        "white": image.min(axis=-1) > 180,
    }
    centres = {name: np.argwhere(mask).mean(axis=0) / 48 for name, mask in colors.items()}
    expected = {"red": (0.8, 0.2), "blue": (0.8, 0.8), "green": (0.2, 0.2), "yellow": (0.2, 0.8), "white": (0.5, 0.5)}
    for name, (row, column) in expected.items():
        np.testing.assert_allclose(centres[name], (row, column), atol=0.04, err_msg=name)


def test_a_tenth_of_a_pixel_is_visible():
    before, after = table((0.5, 0.5)), table((0.5 + 0.1 / 48, 0.5))
    assert (draw(before, 48) != draw(after, 48)).any()
