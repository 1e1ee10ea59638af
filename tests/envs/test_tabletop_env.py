"""The Gymnasium face of the tabletop."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lapa.config.tabletop import Distractors, TabletopScene
from lapa.envs.tabletop import ENV_ID
from lapa.envs.tabletop.env import TabletopEnv
from lapa.envs.tabletop.oracle import Oracle
from lapa.envs.tabletop.tasks import PushDirection, Reach
from lapa.errors import ConfigError


def test_gymnasium_accepts_the_environment():
    check_env(gymnasium.make(ENV_ID).unwrapped)


def test_a_seed_decides_every_frame():
    def play() -> list[np.ndarray]:
        env = TabletopEnv()
        frames = [env.reset(seed=7)[0]["image"]]
        actions = np.random.default_rng(0).uniform(-1, 1, (20, 2))
        return frames + [env.step(action)[0]["image"] for action in actions]

    np.testing.assert_array_equal(play(), play())


def test_gymnasium_accepts_another_world_with_distractors():
    env = TabletopEnv(scene=TabletopScene(world="workshop", objects=6, distractors=Distractors()))
    check_env(env, skip_render_check=True)
    assert env.metadata["render_fps"] == 5


def test_an_instruction_in_other_words_sets_the_task_and_is_shown():
    env = TabletopEnv()
    observation, _ = env.reset(seed=0, options={"instruction": "shove the yellow star up"})
    assert env.task == PushDirection("yellow star", "up")
    assert observation["instruction"] == "shove the yellow star up"
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"instruction": "shove the pink moon up"}, r"4 objects has no pink moon\. Set objects to 6"),
        ({"kind": "juggle"}, r"'juggle' is no kind of task; kinds are reach,"),
        ({"task": "reach"}, r"no option task; it takes kind, instruction and wording"),
    ],
)
def test_what_the_table_cannot_give_is_refused(options: dict[str, str], expected: str):
    with pytest.raises(ConfigError, match=expected):
        TabletopEnv().reset(seed=0, options=options)


def test_an_episode_ends_with_success_or_is_cut_off():
    env = TabletopEnv(max_steps=60)
    env.reset(seed=1, options={"kind": "reach"})
    assert isinstance(env.task, Reach)
    oracle, terminated, truncated = Oracle(env.task), False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(oracle.act(env.state))
    assert terminated and not truncated and reward == 1.0 and info["success"]

    env = TabletopEnv(max_steps=2)
    env.reset(seed=1)
    assert [env.step(np.zeros(2))[3] for _ in range(2)] == [False, True]
