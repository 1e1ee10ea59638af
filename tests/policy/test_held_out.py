"""What the held-out error compares a policy with."""

from types import SimpleNamespace

import numpy as np
import pytest

from lapa.data.dataset import Dataset
from lapa.data.splits import split_rows
from lapa.data.stream import episode_arrays, episode_frames
from lapa.policy.held_out import held_out_error, some_observations
from tests.builders import make_dataset

SHARE = 0.3


class Constant:
    """Answers every observation with one action."""

    def __init__(self, action):
        self.action = action

    def act(self, observations, instructions):
        return [SimpleNamespace(actions=self.action[None]) for _ in observations]


@pytest.fixture
def dataset(tmp_path):
    return Dataset.open(make_dataset(tmp_path / "dataset", episodes=8, frames=12))


def known_actions(dataset):
    training, _ = split_rows(dataset, SHARE)
    return np.concatenate([episode_arrays(dataset, row)["actions"] for row in training])


def error_of(dataset, action):
    return held_out_error(Constant(action), dataset, validation_share=SHARE, use_proprioception=False)


def test_the_mean_action_measured_against_itself_is_one(dataset):
    error = error_of(dataset, known_actions(dataset).mean(axis=0))
    assert error.ratio == pytest.approx(1)
    assert "does not know more than a constant answer" in error.verdict


def test_beating_the_mean_with_the_median_is_not_knowing_anything(dataset):
    error = error_of(dataset, np.median(known_actions(dataset), axis=0))
    assert error.ratio == pytest.approx(error.median_ratio)
    assert "does not know more than a constant answer" in error.verdict


def test_an_only_episode_is_trained_on_and_leaves_nothing_to_compare(tmp_path):
    alone = Dataset.open(make_dataset(tmp_path / "alone", episodes=1, frames=12))
    assert error_of(alone, np.zeros(3, np.float32)) is None


def test_only_held_out_episodes_are_compared(dataset):
    _, held_out = split_rows(dataset, SHARE)
    assert error_of(dataset, np.zeros(3, np.float32)).timesteps == 12 * len(held_out)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_observations_to_record_are_of_held_out_episodes_spread_evenly_and_the_same_every_time(dataset, count):
    _, held_out = split_rows(dataset, SHARE)
    found = some_observations(dataset, validation_share=SHARE, use_proprioception=True, count=count)
    frames = [frame for row in held_out for frame in episode_frames(dataset, row)]
    assert len(found) == count
    assert all(any(np.array_equal(seen.image, frame) for frame in frames) for seen, _ in found)
    assert {instruction for _, instruction in found} <= {f"push object {row % 3}" for row in held_out}
    again = some_observations(dataset, validation_share=SHARE, use_proprioception=True, count=count)
    assert [seen.proprioception[0] for seen, _ in found] == [seen.proprioception[0] for seen, _ in again]


def test_without_held_out_episodes_observations_to_record_are_of_the_others(tmp_path):
    alone = Dataset.open(make_dataset(tmp_path / "alone", episodes=1, frames=2, actions=False))
    ((seen, _),) = some_observations(alone, validation_share=SHARE, use_proprioception=False, count=1)
    assert seen.proprioception is None and seen.image.shape == (48, 48, 3)
