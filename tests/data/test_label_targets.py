"""What pretraining learns from labels: codes, shuffled codes or labelled actions, and nothing that was recorded."""

import itertools
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lapa.config.data import StreamConfig
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays
from lapa.data.labels import EpisodeActions, EpisodeLabels, Labels, LabelStamp, LabelWriter
from lapa.data.shuffled_labels import ShuffledLabels
from lapa.data.stream import SampleSpec, training_batches, validation_batches
from lapa.errors import DataError
from tests.builders import make_dataset

LENGTHS = [12, 20, 3, 9, 17, 6]
WINDOW = 5


@pytest.fixture
def folder(tmp_path):
    return make_dataset(tmp_path / "data", frames=LENGTHS, episodes_per_shard=4)


@pytest.fixture
def dataset(folder):
    return Dataset.open(folder)


def write_labels(dataset, url, kind="latent-action"):
    """Codes, or actions, (row, timestep) of each pair."""
    holds_codes = kind == "latent-action"
    stamp = LabelStamp(
        dataset_revision=dataset.revision, labeller_digest="abc", labeller_kind=kind, window_seconds=0.5,
        image_size=48, codes_per_pair=2 if holds_codes else 0, codebook_size=64 if holds_codes else 0,
        action_names=() if holds_codes else ("x", "y"),
    )  # fmt: skip
    writer = LabelWriter(str(url), stamp)
    for shard in range(dataset.info.num_shards):
        episodes = []
        for row in np.flatnonzero(dataset.index["shard"].to_numpy() == shard).tolist():
            name, count = dataset.index["episode"][row].as_py(), max(LENGTHS[row] - WINDOW, 0)
            values = np.stack([np.full(count, row), np.arange(count)], axis=1)
            episodes.append(
                EpisodeLabels(episode=name, codes=values, vectors=np.zeros((count, 2, 3)))
                if holds_codes
                else EpisodeActions(episode=name, actions=values.astype(np.float32))
            )
        writer.write_shard(shard, episodes)
    writer.finish(dataset)
    return Labels.open(str(url))


def read(dataset, spec, steps=4, **config):
    settings = StreamConfig(**{"lanes": 4, "shuffle_samples": 8, "validation_share": 0.2, "workers": 0, **config})
    stream = training_batches(
        dataset, spec, settings, batch_size=8, seed=3, start_step=0, rank=0, world_size=1
    )  # fmt: skip
    held_out = validation_batches(dataset, spec, settings, batch_size=8, rank=0, world_size=1, max_batches=2)
    return [*itertools.islice(stream, steps), *held_out]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_chunk_of_labelled_actions_begins_at_its_timestep_and_ends_with_the_labels(dataset, tmp_path, workers):
    labels = write_labels(dataset, tmp_path / "labels", "inverse-dynamics")
    for batch in read(dataset, SampleSpec(horizon=3, action_labels=labels), workers=workers):
        last = torch.tensor(LENGTHS)[batch.episode] - WINDOW - 1
        wanted = batch.timestep[:, None] + torch.arange(3)
        assert torch.equal(batch.action_is_real, wanted <= last[:, None])
        assert torch.equal(batch.actions[..., 0], batch.episode[:, None].expand(-1, 3).float())
        assert torch.equal(batch.actions[..., 1], wanted.minimum(last[:, None]).float())


def test_labels_that_lack_timesteps_are_refused(dataset, tmp_path):
    labels = write_labels(dataset, tmp_path / "labels", "inverse-dynamics")
    short = type(labels)(labels.url, labels.stamp.model_copy(update={"window_seconds": 0.2}), "abc", [0, 4])
    short._read = lambda shard, column: [np.zeros((1, 2), np.float32)] * 4  # as if a shard had been cut
    with pytest.raises(DataError, match="lack timesteps"):
        read(dataset, SampleSpec(horizon=1, action_labels=short))


@pytest.mark.parametrize("kind", ["latent-action", "inverse-dynamics"])
def test_recorded_actions_are_never_read_where_labels_are_learned(dataset, folder, tmp_path, kind):
    labels = write_labels(dataset, tmp_path / "labels", kind)
    spec = SampleSpec(labels=labels) if kind == "latent-action" else SampleSpec(horizon=2, action_labels=labels)
    before = read(dataset, spec)
    overwrite_arrays(dataset)
    with pytest.raises(DataError):
        episode_arrays(Dataset.open(folder), 0)
    for ours, theirs in zip(before, read(Dataset.open(folder), spec), strict=True):
        for name in ("episode", "timestep", "current", "codes", "actions"):
            mine, other = getattr(ours, name), getattr(theirs, name)
            assert (mine is None and other is None) or torch.equal(mine, other)


def overwrite_arrays(dataset):
    """Zeros where the actions were."""
    index = dataset.index
    for row in range(dataset.info.num_episodes):
        with Path(dataset.shard_url(index["shard"][row].as_py())).open("r+b") as file:
            file.seek(index["arrays_offset"][row].as_py())
            file.write(bytes(index["arrays_bytes"][row].as_py()))


def test_shuffling_keeps_how_often_each_code_occurs_and_breaks_where(dataset, tmp_path):
    labels = write_labels(dataset, tmp_path / "labels")
    rows = range(dataset.info.num_episodes)
    shuffled = ShuffledLabels(labels=labels, num_episodes=len(rows), seed=0)
    true, wrong = (np.concatenate([source.codes_of(row) for row in rows]) for source in (labels, shuffled))
    assert [len(shuffled.codes_of(row)) for row in rows] == [len(labels.codes_of(row)) for row in rows]
    assert Counter(map(tuple, wrong.tolist())) == Counter(map(tuple, true.tolist()))
    assert (true == wrong).all(axis=1).mean() < 0.2  # every pair is unlike all others: chance leaves about one


def test_one_seed_shuffles_one_way_in_every_process(dataset, tmp_path):
    labels = write_labels(dataset, tmp_path / "labels")
    first, second, other = (
        ShuffledLabels(labels=labels, num_episodes=dataset.info.num_episodes, seed=seed) for seed in (1, 1, 2)
    )
    copy = pickle.loads(pickle.dumps(second))
    assert all(np.array_equal(first.codes_of(row), copy.codes_of(row)) for row in range(6))
    assert any(not np.array_equal(first.codes_of(row), other.codes_of(row)) for row in range(6))


def test_the_stream_hands_out_shuffled_codes(dataset, tmp_path):
    shuffled = ShuffledLabels(labels=write_labels(dataset, tmp_path / "labels"), num_episodes=6, seed=0)
    for batch in read(dataset, SampleSpec(labels=shuffled)):
        for row, timestep, codes in zip(batch.episode.tolist(), batch.timestep.tolist(), batch.codes, strict=True):
            assert codes.tolist() == shuffled.codes_of(row)[timestep].tolist()
