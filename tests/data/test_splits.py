"""Held-out episodes and windows."""

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from lapa.config.data import ExistingDataset, MixtureConfig, MixturePart
from lapa.data.dataset import Dataset
from lapa.data.mixture import mix
from lapa.data.splits import is_chosen, split_rows
from lapa.data.windows import window_of
from lapa.errors import ConfigError
from tests.builders import make_dataset


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Dataset:
    """An index of 5000 episodes; nothing here looks at their frames."""
    one = Dataset.open(make_dataset(tmp_path_factory.mktemp("one"), episodes=1, frames=2))
    names = pa.array([f"episode-{number}" for number in range(5000)])
    return replace(one, index=pa.table({"episode": names}))


def test_about_the_share_of_episodes_is_held_out(many):
    _, held_out = split_rows(many, 0.1)
    assert 400 < len(held_out) < 600


def test_raising_the_share_moves_no_episode_back_to_training(many):
    (_, few), (_, more) = split_rows(many, 0.1), split_rows(many, 0.3)
    assert set(few) < set(more)


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


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (2, 2), (3, 4)])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.999])
def test_twins_across_members_are_on_one_side_and_no_side_nor_members_training_is_empty(tmp_path, sizes, share):
    """Ids say nothing across members: every one has an episode-0000."""
    urls = {
        name: make_dataset(tmp_path / name, episodes=size, frames=2) for name, size in zip("ab", sizes, strict=True)
    }
    parts = {name: MixturePart(dataset=ExistingDataset(url=url)) for name, url in urls.items()}
    for one, other in itertools.product(*map(range, sizes)):
        twins = {f"b/episode-{other:04d}": f"a/episode-{one:04d}"}
        mix(MixtureConfig(datasets=parts), urls, str(tmp_path / "mixture"), twins=twins)
        training, held_out = (set(rows.tolist()) for rows in split_rows(Dataset.open(str(tmp_path / "mixture")), share))
        assert len(training & {one, sizes[0] + other}) in (0, 2)
        assert held_out and training & set(range(sizes[0])) and max(training) >= sizes[0]


def test_a_twin_moves_no_recording_that_only_has_its_id(tmp_path):
    urls = {name: make_dataset(tmp_path / name, episodes=4, frames=2) for name in "ab"}
    parts = {name: MixturePart(dataset=ExistingDataset(url=url)) for name, url in urls.items()}
    mix(MixtureConfig(datasets=parts), urls, str(tmp_path / "mixture"), twins={"b/episode-0000": "a/episode-0003"})
    for share in np.linspace(0.05, 0.95, 19):
        alone = set(split_rows(Dataset.open(urls["a"]), share)[1].tolist()) - {3}
        held_out = set(split_rows(Dataset.open(str(tmp_path / "mixture")), share)[1].tolist())
        assert held_out & {0, 1, 2} == alone


def test_windows_are_seconds_rounded_to_timesteps():
    assert window_of(0.6, 10) == 6
    assert window_of(0.5, 5) == 3
    assert window_of(2.4, 30) == 72


def test_a_window_below_one_timestep_is_refused():
    with pytest.raises(ConfigError, match=r"at least 0\.2 seconds"):
        window_of(0.05, 5)


def test_a_share_of_episodes_is_chosen_by_name_and_purpose_alone():
    names = [f"episode-{number}" for number in range(5000)]
    few, more = ({name for name in names if is_chosen("motion", name, share)} for share in (0.02, 0.1))
    assert 60 < len(few) < 140 and few < more
    assert few != {name for name in names if is_chosen("validation", name, 0.02)}
