"""The Gymnasium face of the tabletop, and closed-loop evaluation."""

from collections.abc import Sequence

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lapa.config.stages import TabletopEvaluation
from lapa.data.video import decode
from lapa.envs.tabletop import ENV_ID
from lapa.envs.tabletop.env import TabletopEnv
from lapa.envs.tabletop.evaluation import EpisodeResults, evaluate, oracle_results
from lapa.envs.tabletop.film import contact_sheet, episode_video
from lapa.envs.tabletop.oracle import Oracle
from lapa.envs.tabletop.tasks import PushDirection, Reach
from lapa.errors import PolicyError
from lapa.types.episodes import ActionChunk, Observation

CONFIG = TabletopEvaluation(episodes=30, max_steps=20)


def chunks(actions: np.ndarray) -> list[ActionChunk]:
    return [ActionChunk(actions=chunk.astype(np.float32)) for chunk in actions]


def idle(observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
    return chunks(np.zeros((len(observations), 1, 2)))


def test_gymnasium_accepts_the_environment():
    check_env(gymnasium.make(ENV_ID).unwrapped)


def test_a_seed_decides_every_frame():
    def play() -> list[np.ndarray]:
        env = TabletopEnv()
        frames = [env.reset(seed=7)[0]["image"]]
        actions = np.random.default_rng(0).uniform(-1, 1, (20, 2))
        return frames + [env.step(action)[0]["image"] for action in actions]

    np.testing.assert_array_equal(play(), play())


def test_an_instruction_in_other_words_sets_the_task_and_is_shown():
    env = TabletopEnv()
    observation, _ = env.reset(seed=0, options={"instruction": "shove the yellow star up"})
    assert env.task == PushDirection("yellow star", "up")
    assert observation["instruction"] == "shove the yellow star up"
    assert env.observation_space.contains(observation)


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


def test_every_policy_begins_in_the_same_states_with_equally_many_of_each_kind():
    seen: list[list[np.ndarray]] = []

    def spy(observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        if len(observations) == CONFIG.episodes:
            seen.append([observation.image for observation in observations])
        return chunks(np.full((len(observations), 20, 2), len(seen)))

    first, second = evaluate(spy, CONFIG), evaluate(spy, CONFIG)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert first.instructions == second.instructions and first.seeds == second.seeds
    assert {kind: first.kinds.count(kind) for kind in set(first.kinds)} == {
        "reach": 10,
        "push-direction": 10,
        "push-to": 10,
    }


def test_doing_nothing_never_succeeds_and_moving_at_random_hardly_does():
    rng = np.random.default_rng(0)
    config = TabletopEvaluation(episodes=30)
    assert evaluate(idle, config).success_rate == 0
    assert evaluate(lambda o, _: chunks(rng.uniform(-1, 1, (len(o), 1, 2))), config).success_rate < 0.15


def test_the_oracle_through_the_policy_interface_does_as_well_as_in_the_open():
    config = TabletopEvaluation(episodes=9)
    envs = {}
    for index in range(config.episodes):
        env = TabletopEnv()
        env.reset(seed=config.seed + index, options={"kind": oracle_results(config).kinds[index]})
        envs[env.instruction, env.proprioception.tobytes()] = env

    def policy(observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        answers = []
        for observation, instruction in zip(observations, instructions, strict=True):
            assert observation.proprioception is not None
            env = envs.pop((instruction, observation.proprioception.tobytes()))
            action = Oracle(env.task).act(env.state)
            env.step(action)
            envs[instruction, env.proprioception.tobytes()] = env
            answers.append(ActionChunk(actions=action[None]))
        return answers

    through, direct = evaluate(policy, config), oracle_results(config)
    np.testing.assert_array_equal(through.success, direct.success)
    assert direct.success_rate > 0.95


@pytest.mark.parametrize(("execute", "calls"), [(None, 4), (2, 10), (1, 20)])
def test_a_chunk_is_executed_without_asking_again(execute: int | None, calls: int):
    asked = 0

    def policy(observations: Sequence[Observation], _: Sequence[str]) -> list[ActionChunk]:
        nonlocal asked
        asked += 1
        return chunks(np.zeros((len(observations), 5, 2)))

    evaluate(policy, CONFIG, execute=execute)
    assert asked == calls


@pytest.mark.parametrize("actions", [np.zeros((1, 7)), np.full((1, 2), np.nan), np.zeros((0, 2))])
def test_impossible_actions_are_refused(actions: np.ndarray):
    with pytest.raises(PolicyError, match="finite chunks"):
        evaluate(lambda o, _: [ActionChunk(actions=actions)] * len(o), CONFIG)


def test_results_name_every_episode_and_can_be_watched():
    results: EpisodeResults = evaluate(idle, CONFIG, keep_videos=2)
    summary = results.summary()
    assert summary["success_rate"] == 0 and summary["low"] == 0 and 0 < summary["high"] < 0.15
    assert set(summary["kinds"]) == {"reach", "push-direction", "push-to"} and len(summary["outcomes"]) == 30
    assert [video.shape for video in results.videos] == [(21, 48, 48, 3)] * 2
    assert contact_sheet(results.videos, results.success).shape == (2 * 100, 8 * 100, 3)
    assert len(list(decode(episode_video(results.videos[0])))) == 21
