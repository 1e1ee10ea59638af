"""Closed-loop evaluation: the same episodes for every policy, whatever the number of processes."""

from collections.abc import Sequence

import numpy as np
import pytest

from lapa.config.stages import TabletopEvaluation
from lapa.config.tabletop import ALL_KINDS, SPLITS, Distractors, TabletopScene, TabletopTasks
from lapa.data.video import decode
from lapa.envs.evaluation import SHARD_EPISODES, evaluate, evaluate_in_processes, expert_results
from lapa.envs.film import contact_sheet, episode_video, video_name
from lapa.envs.results import EpisodeResults
from lapa.envs.tabletop.simulator import TabletopSimulator
from lapa.errors import PolicyError
from lapa.types.episodes import ActionChunk, Observation

CONFIG = TabletopEvaluation(episodes=30, max_steps=20)
SIMULATOR = TabletopSimulator(CONFIG)
STUDY = TabletopEvaluation(
    episodes=46,
    scene=TabletopScene(world="workshop", objects=6, distractors=Distractors()),
    tasks=TabletopTasks(kinds=ALL_KINDS, splits=SPLITS, wordings="any"),
)


def chunks(actions: np.ndarray) -> list[ActionChunk]:
    return [ActionChunk(actions=chunk.astype(np.float32)) for chunk in actions]


def idle(observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
    return chunks(np.zeros((len(observations), 1, 2)))


class Wanderer:
    """Goes where the picture's brightest column and its own dice send it."""

    def __init__(self, shard: int) -> None:
        self._rng = np.random.default_rng(shard)

    def __call__(self, observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        seen = np.array([observation.image.mean() for observation in observations])
        return chunks(np.sin(seen)[:, None, None] + self._rng.uniform(-1, 1, (len(observations), 4, 2)))


def test_every_policy_begins_in_the_same_states_with_equally_many_of_each_kind():
    seen: list[list[np.ndarray]] = []

    def spy(observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        if len(observations) == CONFIG.episodes:
            seen.append([observation.image for observation in observations])
        return chunks(np.full((len(observations), 20, 2), len(seen)))

    first, second = evaluate(spy, SIMULATOR), evaluate(spy, SIMULATOR)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert first.instructions == second.instructions and first.seeds == second.seeds
    assert {kind: first.kinds.count(kind) for kind in set(first.kinds)} == {
        "reach": 10,
        "push-direction": 10,
        "push-to": 10,
    }


def test_doing_nothing_never_succeeds_and_moving_at_random_hardly_does():
    rng = np.random.default_rng(0)
    simulator = TabletopSimulator(TabletopEvaluation(episodes=30))
    assert evaluate(idle, simulator).success_rate == 0
    assert evaluate(lambda o, _: chunks(rng.uniform(-1, 1, (len(o), 1, 2))), simulator).success_rate < 0.15


@pytest.mark.parametrize("config", [TabletopEvaluation(episodes=9), STUDY.model_copy(update={"episodes": 23})])
def test_the_expert_through_the_policy_interface_does_as_well_as_in_the_open(config: TabletopEvaluation):
    simulator = TabletopSimulator(config)
    episodes = [simulator.episode(index) for index in range(config.episodes)]
    playing = {(e.instruction, e.proprioception.tobytes()): e for e in episodes}

    def policy(observations: Sequence[Observation], instructions: Sequence[str]) -> list[ActionChunk]:
        answers = []
        for observation, instruction in zip(observations, instructions, strict=True):
            assert observation.proprioception is not None
            episode = playing.pop((instruction, observation.proprioception.tobytes()))
            action = episode.expert_action()
            episode.step(action)
            playing[instruction, episode.proprioception.tobytes()] = episode
            answers.append(ActionChunk(actions=action[None]))
        return answers

    through, direct = evaluate(policy, simulator), expert_results(simulator)
    np.testing.assert_array_equal(through.success, direct.success)
    np.testing.assert_array_equal(through.steps, direct.steps)
    assert direct.success_rate > 0.95


def test_outcomes_do_not_depend_on_the_number_of_processes():
    config = TabletopEvaluation(episodes=SHARD_EPISODES + 8, max_steps=12)
    runs = [evaluate_in_processes(Wanderer, TabletopSimulator(config), film=[2, 35], workers=n) for n in (1, 2)]
    assert runs[0].summary() == runs[1].summary()
    assert sorted(runs[0].videos) == [2, 35]
    for index, video in runs[0].videos.items():
        np.testing.assert_array_equal(video, runs[1].videos[index])


def test_distractors_change_the_pictures_and_nothing_else():
    plain = TabletopSimulator(STUDY.model_copy(update={"scene": TabletopScene(world="workshop", objects=6)}))
    disturbed = TabletopSimulator(STUDY)
    for index in range(5):
        first, second, again = plain.episode(index), disturbed.episode(index), disturbed.episode(index)
        np.testing.assert_array_equal(first.state.blocks, second.state.blocks)
        assert first.instruction == second.instruction
        for _ in range(3):
            np.testing.assert_array_equal(second.image, again.image)
            assert (first.image != second.image).mean() > 0.3
            for episode in (first, second, again):
                episode.step(np.zeros(2))


@pytest.mark.parametrize(("execute", "calls"), [(None, 4), (2, 10), (1, 20)])
def test_a_chunk_is_executed_without_asking_again(execute: int | None, calls: int):
    asked = 0

    def policy(observations: Sequence[Observation], _: Sequence[str]) -> list[ActionChunk]:
        nonlocal asked
        asked += 1
        return chunks(np.zeros((len(observations), 5, 2)))

    evaluate(policy, SIMULATOR, execute=execute)
    assert asked == calls


@pytest.mark.parametrize("actions", [np.zeros((1, 7)), np.full((1, 2), np.nan), np.zeros((0, 2))])
def test_impossible_actions_are_refused(actions: np.ndarray):
    with pytest.raises(PolicyError, match="finite chunks"):
        evaluate(lambda o, _: [ActionChunk(actions=actions)] * len(o), SIMULATOR)


def test_results_name_every_episode_and_can_be_watched():
    results: EpisodeResults = evaluate(idle, SIMULATOR, film=[0, 29])
    summary = results.summary()
    assert summary["success_rate"] == 0 and summary["low"] == 0 and 0 < summary["high"] < 0.15
    assert set(summary["kinds"]) == {"reach", "push-direction", "push-to"} and summary["splits"] == {}
    assert len(summary["outcomes"]) == 30 and summary["outcomes"][0]["split"] is None
    assert [results.videos[index].shape for index in (0, 29)] == [(21, 48, 48, 3)] * 2
    assert contact_sheet(results).shape == (2 * (22 + 102), 8 * 102, 3)
    assert len(list(decode(episode_video(results.videos[0], 10)))) == 21
    assert video_name(results, 29) == "0029-push-to-failure.mp4"


def test_rates_are_given_per_kind_per_split_and_per_both():
    summary = expert_results(TabletopSimulator(STUDY)).summary()
    assert set(summary["splits"]) == set(SPLITS) and set(summary["kinds"]) == set(ALL_KINDS)
    assert sum(split["episodes"] for split in summary["splits"].values()) == 46
    assert "reach" not in summary["splits"]["unseen-combination"]["kinds"]
    for split in summary["splits"].values():
        assert sum(kind["episodes"] for kind in split["kinds"].values()) == split["episodes"]


def test_solid_and_dashed_frames_tell_success_from_failure_without_colour():
    def grey_sheet(success: bool) -> np.ndarray:
        results = EpisodeResults(
            seeds=(0,), kinds=("reach",), splits=(None,), instructions=("reach the red circle",),
            success=np.array([success]), steps=np.array([1]), videos={0: np.full((2, 48, 48, 3), 128, np.uint8)},
        )  # fmt: skip
        return contact_sheet(results).mean(axis=2)

    solid, dashed = grey_sheet(True)[24], grey_sheet(False)[24]
    assert np.ptp(solid) == 0 and np.ptp(dashed) > 100
