"""A mixture is a dataset: drawn by shares, in one order for every world size, with each member's own window."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from lapa.config.data import ExistingDataset, MixtureConfig, MixturePart, StreamConfig
from lapa.config.load import changed, load_run, parse_override
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays
from lapa.data.mixture import action_clash, is_mixed, mix, shares_of
from lapa.data.mixture_order import MixtureOrder
from lapa.data.splits import split_rows
from lapa.data.stream import SampleSpec, training_batches, validation_batches
from lapa.data.windows import episode_windows
from lapa.errors import ConfigError, DataError
from tests.builders import frame_of, make_dataset

PAIRS = SampleSpec(window_seconds=0.5)
LENGTHS = {"large": [30, 40, 35, 28, 33, 31], "small": [12, 14, 9]}
SHARES = {"large": 0.25, "small": 0.75}


def config_of(urls, **settings) -> MixtureConfig:
    weights = settings.pop("weights", {})
    windows = settings.pop("windows", {})
    parts = {
        name: MixturePart(dataset=ExistingDataset(url=url), weight=weights.get(name), window_seconds=windows.get(name))
        for name, url in urls.items()
    }
    return MixtureConfig(datasets=parts, **settings)


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    large = make_dataset(folder / "large", frames=LENGTHS["large"], episodes_per_shard=4)
    small = make_dataset(folder / "small", frames=LENGTHS["small"], fps=5.0, seed=1, licence="CC-BY-4.0")
    return {"large": large, "small": small}


@pytest.fixture(scope="module")
def mixture(urls, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("mixture"))
    mix(config_of(urls, weights={"large": 1, "small": 3}, windows={"small": 0.6}), urls, folder)
    return Dataset.open(folder)


def read(dataset, steps, *, start=0, rank=0, world=1, batch_size=16, spec=PAIRS, **config):
    settings = StreamConfig(**{"lanes": 8, "shuffle_samples": 12, "validation_share": 0.2, "workers": 0, **config})
    stream = training_batches(
        dataset, spec, settings, batch_size=batch_size, seed=3, start_step=start, rank=rank, world_size=world
    )
    return list(itertools.islice(stream, steps))


def keys(batches):
    return [list(zip(batch.episode.tolist(), batch.timestep.tolist(), strict=True)) for batch in batches]


def test_a_mixture_is_the_episodes_of_its_members_end_to_end(mixture, urls):
    assert mixture.index["num_frames"].to_pylist() == [*LENGTHS["large"], *LENGTHS["small"]]
    assert mixture.index["shard"].to_pylist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert mixture.info.licences == {"CC-BY-4.0": 3, "unknown": 6}
    np.testing.assert_array_equal(
        episode_arrays(mixture, 7)["actions"], episode_arrays(Dataset.open(urls["small"]), 1)["actions"]
    )


def test_windows_are_each_members_own_seconds_at_its_own_rate(mixture):
    assert episode_windows(mixture, 0.5).tolist() == [5] * 6 + [3] * 3
    for batch in read(mixture, 2):
        for i, (row, t) in enumerate(keys([batch])[0]):
            place, window = (row, 5) if row < 6 else (row - 6, 3)
            for image, timestep in ((batch.current[i], t), (batch.future[i], t + window)):
                wanted = frame_of(place, timestep).astype(int)
                assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - wanted).mean() < 6


def test_samples_come_in_the_shares_that_were_asked_for(mixture):
    drawn = Counter(row >= 6 for batch in keys(read(mixture, 24)) for row, _ in batch)
    assert drawn[True] / drawn.total() == pytest.approx(0.75, abs=0.02)


def test_no_held_out_episode_of_any_member_is_trained_on(mixture, urls):
    held_out = split_rows(mixture, 0.2)[1]
    alone = [split_rows(Dataset.open(url), 0.2)[1] + first for url, first in zip(urls.values(), (0, 6), strict=True)]
    assert held_out.tolist() == np.concatenate(alone).tolist()
    drawn = {row for batch in keys(read(mixture, 24)) for row, _ in batch}
    assert drawn == set(range(9)) - set(held_out.tolist())


@pytest.mark.parametrize("world", [2, 4])
def test_every_world_size_sees_the_same_batches_and_resuming_goes_on_with_them(mixture, world):
    alone = keys(read(mixture, 6))
    ranks = [keys(read(mixture, 4, start=2, rank=rank, world=world)) for rank in range(world)]
    assert [list(itertools.chain(*parts)) for parts in zip(*ranks, strict=True)] == alone[2:]


def test_validation_follows_the_shares_too(mixture):
    settings = StreamConfig(lanes=8, validation_share=0.4, workers=0)
    found = validation_batches(mixture, PAIRS, settings, batch_size=4, rank=0, world_size=1, max_batches=8)
    drawn = Counter(row >= 6 for batch in keys(found) for row, _ in batch)
    assert drawn[True] / drawn.total() == pytest.approx(0.75, abs=0.1)


def test_a_lower_rate_thins_the_starts_of_samples_and_not_their_windows(urls, tmp_path):
    mix(config_of(urls, fps=4), urls, str(tmp_path))
    dataset = Dataset.open(str(tmp_path))
    drawn = {key for batch in keys(read(dataset, 40, validation_share=0)) for key in batch}
    assert {t for row, t in drawn if row == 0} == {int(i * 2.5) for i in range(10)}  # 10 fps, 25 pairs
    assert {t for row, t in drawn if row == 6} == {int(i * 1.25) for i in range(8)}  # 5 fps, 9 pairs


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.01, 0.29, 0.7)])
def test_every_member_goes_through_its_epochs_whole_and_any_sample_is_found_alone(shares):
    counts, members = np.array([5, 7, 3, 11, 4, 6]), np.array([0, 0, 1, 1, 2, 2])[: 2 * len(shares)]
    counts = counts[: len(members)]
    order = MixtureOrder(
        counts,
        np.arange(len(counts)),
        members,
        shares=shares,
        names=list("abc")[: len(shares)],
        lanes=4,
        shuffle_samples=16,
        seed=5,
    )
    drawn = [order.sample_at(counter) for counter in range(4 * 160)]
    for place, share in enumerate(shares):
        own = Counter(key for key in drawn if members[key[0]] == place)
        assert own.total() == pytest.approx(share * len(drawn), abs=4 * len(shares))
        size = counts[members == place].sum()
        # Each of four lanes is within one epoch's part of the others, so samples differ by an epoch or two at most.
        if own.total() >= 4 * size:
            assert len(own) == size
            assert max(own.values()) - min(own.values()) <= 3
    again = pickle.loads(pickle.dumps(order))
    assert [again.sample_at(counter) for counter in (0, 17, 599)] == [drawn[counter] for counter in (0, 17, 599)]


def test_shares_come_from_weights_or_from_hours_and_temperature():
    hours, urls = {"a": 9.0, "b": 1.0}, {"a": "a", "b": "b"}
    assert shares_of(config_of(urls), hours) == pytest.approx({"a": 0.9, "b": 0.1})
    assert shares_of(config_of(urls, temperature=2), hours) == pytest.approx({"a": 0.75, "b": 0.25})
    assert shares_of(config_of(urls, weights={"a": 1, "b": 4}), hours) == pytest.approx({"a": 0.2, "b": 0.8})


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"weights": {"a": 1}}, "b has no weight"), ({"weights": {"a": 1, "b": 1}, "temperature": 2}, "would be ignored")],
)
def test_weights_are_for_all_or_for_none_and_never_beside_a_temperature(settings, why):
    with pytest.raises(ValidationError, match=why):
        config_of({"a": "a", "b": "b"}, **settings)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hands.wieght=2", "videos.datasets.hands.wieght: unknown key. Did you mean 'weight'"),
        ("hands.dataset.uri=x", "videos.datasets.hands.dataset.uri: unknown key. Did you mean 'url'"),
    ],
)
def test_an_unknown_setting_of_a_dataset_is_named_with_the_nearest(override, said):
    mixed = {"kind": "mixture", "datasets": {"hands": {"dataset": {"kind": "dataset", "url": "hands"}}}}
    run = changed(load_run("tabletop"), {"videos": mixed})
    with pytest.raises(ConfigError, match=said):
        changed(run, dict([parse_override(f"videos.datasets.{override}")]))


def test_a_mixture_notices_that_a_member_was_ingested_again(tmp_path):
    urls = {"one": make_dataset(tmp_path / "one", episodes=2), "two": make_dataset(tmp_path / "two", episodes=2)}
    config, folder = config_of(urls), str(tmp_path / "mixture")
    mix(config, urls, folder)
    assert not is_mixed(config, urls, folder), "nobody looked for what they share"
    mix(config, urls, folder, twins={})
    assert is_mixed(config, urls, folder)
    make_dataset(tmp_path / "two", episodes=3)
    assert not is_mixed(config, urls, folder)
    with pytest.raises(DataError, match=r"two was ingested again .* Run the ingest stage again"):
        Dataset.open(folder)


def test_frames_of_different_sizes_are_refused_before_anything_is_written(tmp_path):
    urls = {"a": make_dataset(tmp_path / "a", episodes=2), "b": make_dataset(tmp_path / "b", episodes=2, image_size=32)}
    with pytest.raises(ConfigError, match=r"48 pixels wide .* 32 .* ingest both with the same image_size"):
        mix(config_of(urls), urls, str(tmp_path / "mixture"))
    assert not (tmp_path / "mixture").exists()


def test_actions_that_mean_different_things_are_named_and_not_offered(urls, mixture):
    opened = {name: Dataset.open(url) for name, url in urls.items()}
    assert action_clash(opened) == "an action is sent 10 times a second in dataset 'large' and 5 in 'small'"
    assert not mixture.info.has_actions
    with pytest.raises(DataError, match="has no actions"):
        read(mixture, 1, spec=SampleSpec(horizon=2))


def test_a_member_whose_episodes_are_shorter_than_its_window_is_named(urls, tmp_path):
    mix(config_of(urls, windows={"small": 5}), urls, str(tmp_path))
    with pytest.raises(DataError, match="dataset 'small' of the mixture has no episode to train on"):
        read(Dataset.open(str(tmp_path)), 1)
