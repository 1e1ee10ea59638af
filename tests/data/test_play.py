"""An episode as a video for people, with what the dataset and its labels say of it."""

import numpy as np
import pytest

from lapa.data import video
from lapa.data.dataset import Dataset
from lapa.data.labels import EpisodeLabels, Labels, LabelStamp, LabelWriter
from lapa.data.play import find_row, play_episode
from lapa.errors import ConfigError, LabelMismatch
from tests.builders import make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return Dataset.open(make_dataset(tmp_path_factory.mktemp("play") / "dataset"))


def labels_of(dataset: Dataset, url: str, codes: int, revision: str | None = None) -> Labels:
    """The same code everywhere."""
    stamp = LabelStamp(
        dataset_revision=revision or dataset.revision, labeller_digest="x", labeller_kind="latent-action",
        window_seconds=0.2, image_size=48, codes_per_pair=4, codebook_size=8,
    )  # fmt: skip
    writer = LabelWriter(url, stamp)
    rows = dataset.index.to_pylist()
    for shard in range(dataset.info.num_shards):
        writer.write_shard(
            shard,
            [
                EpisodeLabels(
                    episode=row["episode"],
                    codes=np.full((row["num_frames"] - 2, 4), codes),
                    vectors=np.zeros((row["num_frames"] - 2, 4, 2), np.float16),
                )
                for row in rows
                if row["shard"] == shard
            ],
        )
    writer.finish(dataset)
    return Labels.open(url)


def test_every_frame_is_there_above_what_is_said_of_it(dataset):
    frames = list(video.decode(play_episode(dataset, 0)))
    row = dataset.index.to_pylist()[0]
    assert len(frames) == row["num_frames"]
    height, width = frames[0].shape[:2]
    assert width % dataset.info.image_size == 0 and height > width
    actions = frames[0][width:].astype(int), frames[-1][width:].astype(int)
    assert np.abs(actions[0] - actions[1]).max() > 100  # other bars, another timestep


def test_latent_actions_are_drawn_and_differ_by_code(dataset, tmp_path):
    pictures = [
        next(iter(video.decode(play_episode(dataset, 0, labels=labels_of(dataset, str(tmp_path / str(code)), code)))))
        for code in (1, 6)
    ]
    plain = next(iter(video.decode(play_episode(dataset, 0))))
    assert pictures[0].shape == pictures[1].shape and pictures[0].shape[0] > plain.shape[0]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 50


def test_labels_of_another_dataset_are_refused(dataset, tmp_path):
    labels = labels_of(dataset, str(tmp_path / "labels"), 1, revision="0" * 16)
    with pytest.raises(LabelMismatch, match="Run the label stage"):
        play_episode(dataset, 0, labels=labels)


def test_an_episode_is_found_by_id_by_its_beginning_or_by_number(dataset):
    ids = dataset.index["episode"].to_pylist()
    assert find_row(dataset, ids[1]) == find_row(dataset, "1") == 1
    with pytest.raises(ConfigError, match="no episode is called 'nobody'"):
        find_row(dataset, "nobody")
    with pytest.raises(ConfigError, match="episodes begin with"):
        find_row(dataset, ids[0][:2])
