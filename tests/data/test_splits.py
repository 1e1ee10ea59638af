"""Held-out episodes and windows."""

import numpy as np
import pytest

from lapa.data.dataset import Dataset
from lapa.data.splits import is_validation, split_rows
from lapa.data.windows import frame_pairs, window_of
from lapa.errors import ConfigError
from tests.builders import make_dataset


def test_about_the_share_of_episodes_is_held_out():
    held_out = sum(is_validation(f"episode-{i}", 0.1) for i in range(5000))
    assert 400 < held_out < 600


def test_raising_the_share_moves_no_episode_back_to_training():
    for i in range(500):
        assert not is_validation(f"{i}", 0.1) or is_validation(f"{i}", 0.3)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_the_split_is_a_partition_and_neither_side_is_empty(tmp_path, share):
    dataset = Dataset.open(make_dataset(tmp_path, episodes=5, frames=3))
    train, validation = split_rows(dataset, share)
    assert sorted([*train, *validation]) == list(range(5))
    assert len(train) > 0
    assert (len(validation) > 0) == (share > 0)


@pytest.mark.parametrize("share", [0.01, 0.999])
def test_a_lone_episode_is_trained_on(tmp_path, share):
    dataset = Dataset.open(make_dataset(tmp_path, episodes=1, frames=3))
    train, _ = split_rows(dataset, share)
    assert np.array_equal(train, [0])


def test_windows_are_seconds_rounded_to_timesteps():
    assert window_of(0.6, 10) == 6
    assert window_of(0.5, 5) == 3
    assert window_of(2.4, 30) == 72


def test_a_window_below_one_timestep_is_refused():
    with pytest.raises(ConfigError, match=r"at least 0\.2 seconds"):
        window_of(0.05, 5)


def test_frame_pairs_never_cross_the_end_of_an_episode():
    assert frame_pairs(5, window=2) == [(0, 2), (1, 3), (2, 4)]
    assert frame_pairs(2, window=5) == []
