"""Physics, tasks, oracle and drawing of the tabletop."""

import numpy as np
import pytest

from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.layouts import random_state, random_task
from lapa.envs.tabletop.rollouts import oracle_rollout
from lapa.envs.tabletop.tasks import (
    TASK_KINDS,
    TASKS,
    WORDINGS,
    PushDirection,
    PushTo,
    Reach,
    TaskKind,
    instruction_of,
    is_success,
    kind_of,
    parse_instruction,
)
from lapa.envs.tabletop.world import BLOCK_RADIUS, CONTACT, MAX_STEP, PUSHER_RADIUS, State, World
from lapa.errors import ConfigError

CORNERS = np.array([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]])
LEFT, RIGHT = np.array([-1.0, 0.0]), np.array([1.0, 0.0])


def table(pusher: tuple[float, float], blocks: np.ndarray = CORNERS) -> State:
    return State(pusher=np.array(pusher), blocks=blocks.copy(), angles=np.zeros(4))


def moved(state: State, block: int, by: tuple[float, float]) -> State:
    blocks = state.blocks.copy()
    blocks[block] += by
    return State(pusher=state.pusher, blocks=blocks, angles=state.angles)


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
        world = World(random_state(rng, random_task(rng)))
        for _ in range(30):
            direction = rng.normal(size=2)
            for _ in range(10):
                world.step(direction * 10)
            state = world.state
            assert (state.pusher > PUSHER_RADIUS - 0.02).all() and (state.pusher < 1 - PUSHER_RADIUS + 0.02).all()
            assert (state.blocks > BLOCK_RADIUS - 0.02).all() and (state.blocks < 1 - BLOCK_RADIUS + 0.02).all()


def test_there_are_32_tasks_and_every_wording_is_understood():
    tasks = [task for tasks in TASKS.values() for task in tasks]
    assert len(tasks) == 4 + 16 + 12
    for task in tasks:
        for wording in range(len(WORDINGS[kind_of(task)])):
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


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_no_task_is_done_at_the_start(kind: TaskKind):
    rng = np.random.default_rng(1)
    for _ in range(100):
        task = random_task(rng, kind)
        state = random_state(rng, task)
        assert kind_of(task) == kind and not is_success(task, state, state)


@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_oracle_succeeds(kind: TaskKind, noise: float):
    rollouts = [oracle_rollout(np.random.default_rng((5, i)), kind=kind, noise=noise) for i in range(60)]
    assert np.mean([rollout.success for rollout in rollouts]) > 0.95


def test_a_rollout_is_the_same_bit_for_bit_and_its_actions_replay_it():
    first, second = (oracle_rollout(np.random.default_rng(3), kind="push-to", noise=0.2) for _ in range(2))
    np.testing.assert_array_equal(first.actions, second.actions)
    world = World(first.states[0])
    for action, expected in zip(first.actions, second.states[1:], strict=True):
        world.step(action)
        np.testing.assert_array_equal(draw(world.state, 48), draw(expected, 48))


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
