"""Labels: complete or absent, the same bytes every time, and refused where they do not belong."""

import json
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from lapa import files
from lapa.data.dataset import Dataset
from lapa.data.labels import EpisodeActions, EpisodeLabels, Labels, LabelStamp, LabelWriter
from lapa.errors import DataError, LabelMismatch
from tests.builders import make_dataset

WINDOW = 5  # timesteps: 0.5 s at the builder's 10 frames per second


@pytest.fixture
def dataset(tmp_path):
    return Dataset.open(make_dataset(tmp_path / "data", frames=[12, 3, 20, 9, 4, 15], episodes_per_shard=2))


def stamp_of(dataset, **changes):
    stamp = LabelStamp(
        dataset_revision=dataset.revision,
        labeller_digest="abc",
        labeller_kind="latent-action",
        window_seconds=0.5,
        image_size=48,
        codes_per_pair=4,
        codebook_size=8,
    )
    return stamp.model_copy(update=changes)


def labels_of(dataset, shard):
    """Codes that spell the row and the timestep, so that a mix-up shows."""
    for row in np.flatnonzero(dataset.index["shard"].to_numpy() == shard).tolist():
        count = max(dataset.index["num_frames"][row].as_py() - WINDOW, 0)
        codes = (np.arange(count)[:, None] + row + np.arange(4)) % 8
        vectors = np.random.default_rng(row).normal(size=(count, 4, 2 if count else 0))
        yield EpisodeLabels(episode=dataset.index["episode"][row].as_py(), codes=codes, vectors=vectors)


def write_labels(dataset, url, **changes):
    writer = LabelWriter(str(url), stamp_of(dataset, **changes))
    for shard in writer.missing_shards(dataset):
        writer.write_shard(shard, list(labels_of(dataset, shard)))
    writer.finish(dataset)
    return Labels.open(str(url))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("damaged", ["{", "{}", '{"schema_version": 1}', "[1]"])
def test_a_damaged_manifest_is_named_and_can_be_written_again(dataset, tmp_path, damaged):
    folder = tmp_path / "labels"
    digest = write_labels(dataset, folder).digest
    (folder / "labels.json").write_text(damaged)
    with pytest.raises(DataError, match=r"(?s)labels\.json .*Delete it and run the label stage again"):
        Labels.open(str(folder))
    with pytest.raises(DataError, match=r"(?s)labels\.json .*Delete it and run the label stage again"):
        write_labels(dataset, folder)
    (folder / "labels.json").unlink()
    assert write_labels(dataset, folder).digest == digest


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_labels_come_back_as_they_were_written(dataset, tmp_path, scheme):
    labels = write_labels(dataset, f"{scheme}{tmp_path}/labels")
    for shard in range(dataset.info.num_shards):
        for row, wanted in zip(
            np.flatnonzero(dataset.index["shard"].to_numpy() == shard).tolist(), labels_of(dataset, shard), strict=True
        ):
            assert np.array_equal(labels.codes_of(row), wanted.codes)
            assert labels.codes_of(row).dtype == np.int64
            vectors = labels.vectors_of(row)
            assert len(vectors) == len(wanted.codes)
            assert not len(vectors) or np.allclose(vectors, wanted.vectors, atol=2e-3)


def test_a_shard_of_episodes_without_labels_is_complete(tmp_path):
    dataset = Dataset.open(make_dataset(tmp_path / "data", frames=[3, 4, 9], episodes_per_shard=2))
    labels = write_labels(dataset, tmp_path / "labels")
    assert [len(labels.codes_of(row)) for row in range(3)] == [0, 0, 4]
    assert [len(labels.vectors_of(row)) for row in range(3)] == [0, 0, 4]


def test_labelling_twice_writes_the_same_bytes(dataset, tmp_path):
    first, second = write_labels(dataset, tmp_path / "one"), write_labels(dataset, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert first.digest == second.digest


def test_labelling_goes_on_where_it_stopped(dataset, tmp_path):
    writer = LabelWriter(str(tmp_path / "labels"), stamp_of(dataset))
    writer.write_shard(1, list(labels_of(dataset, 1)))
    assert writer.missing_shards(dataset) == [0, 2]
    with pytest.raises(DataError, match=r"lacks labels of 2 of 3 shards.*shard-00000"):
        writer.finish(dataset)
    with pytest.raises(DataError, match="no finished labels"):
        Labels.open(str(tmp_path / "labels"))


def test_two_writers_of_the_same_labels_do_no_harm(dataset, tmp_path):
    alone = write_labels(dataset, tmp_path / "alone")
    writers = [LabelWriter(str(tmp_path / "both"), stamp_of(dataset)) for _ in range(2)]
    for shard in range(3):
        for writer in writers:
            writer.write_shard(shard, list(labels_of(dataset, shard)))
    assert writers[0].finish(dataset) == writers[1].finish(dataset) == alone.digest
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")


def test_shards_of_another_stamp_count_as_missing(dataset, tmp_path):
    url = str(tmp_path / "labels")
    LabelWriter(url, stamp_of(dataset, labeller_digest="old")).write_shard(0, list(labels_of(dataset, 0)))
    assert LabelWriter(url, stamp_of(dataset)).missing_shards(dataset) == [0, 1, 2]


def test_finished_labels_of_another_model_are_not_overwritten(dataset, tmp_path):
    write_labels(dataset, tmp_path / "labels")
    with pytest.raises(LabelMismatch, match="labeller_digest is abc but this run has new"):
        LabelWriter(str(tmp_path / "labels"), stamp_of(dataset, labeller_digest="new")).missing_shards(dataset)


def test_labels_of_other_episodes_are_not_finished(dataset, tmp_path):
    writer = LabelWriter(str(tmp_path / "labels"), stamp_of(dataset))
    for shard in range(3):
        writer.write_shard(shard, list(labels_of(dataset, 0)))
    with pytest.raises(DataError, match="other episodes"):
        writer.finish(dataset)


def test_labels_that_fit_pass_the_check(dataset, tmp_path):
    write_labels(dataset, tmp_path / "labels").check(dataset, window_seconds=0.5, labeller_digest="abc")


@pytest.mark.parametrize(
    ("stamp", "run", "named"),
    [
        ({"dataset_revision": "other"}, {}, "dataset_revision is other"),
        ({}, {"window_seconds": 0.6}, "window_seconds is 0.5 but this run has 0.6"),
        ({}, {"labeller_digest": "xyz"}, "labeller_digest is abc but this run has xyz"),
    ],
)
def test_a_mismatch_says_what_differs_and_what_to_do(dataset, tmp_path, stamp, run, named):
    labels = write_labels(dataset, tmp_path / "labels", **stamp)
    with pytest.raises(LabelMismatch, match=rf"{named}.*Run the label stage"):
        labels.check(dataset, **{"window_seconds": 0.5, "labeller_digest": "abc", **run})


def test_labels_travel_to_worker_processes(dataset, tmp_path):
    labels = write_labels(dataset, tmp_path / "labels")
    copy = pickle.loads(pickle.dumps(labels))
    assert np.array_equal(copy.codes_of(2), labels.codes_of(2))


def test_a_damaged_label_file_is_named_and_written_anew(dataset, tmp_path):
    labels = write_labels(dataset, tmp_path / "labels")
    files.write_bytes(f"{tmp_path}/labels/shard-00001.parquet", b"PAR1 nonsense PAR1")
    with pytest.raises(DataError, match=r"shard-00001\.parquet"):
        labels.codes_of(2)
    assert LabelWriter(labels.url, stamp_of(dataset)).missing_shards(dataset) == [1]


def write_actions(dataset, url):
    """The action at t of episode row r is (r, t + 0.5)."""
    stamp = {"labeller_kind": "inverse-dynamics", "codes_per_pair": 0, "codebook_size": 0, "action_names": ("x", "y")}
    writer = LabelWriter(str(url), stamp_of(dataset, **stamp))
    for shard in writer.missing_shards(dataset):
        episodes = []
        for row in np.flatnonzero(dataset.index["shard"].to_numpy() == shard).tolist():
            count = max(dataset.index["num_frames"][row].as_py() - WINDOW, 0)
            actions = np.stack([np.full(count, row), np.arange(count) + 0.5], axis=1).astype(np.float32)
            episodes.append(EpisodeActions(episode=dataset.index["episode"][row].as_py(), actions=actions))
        writer.write_shard(shard, episodes)
    writer.finish(dataset)
    return Labels.open(str(url))


def test_actions_come_back_as_they_were_written(dataset, tmp_path):
    labels = pickle.loads(pickle.dumps(write_actions(dataset, tmp_path / "labels")))
    for row, frames in enumerate(dataset.index["num_frames"].to_pylist()):
        actions = labels.actions_of(row)
        assert actions.shape == (max(frames - WINDOW, 0), 2) and actions.dtype == np.float32
        assert (actions[:, 0] == row).all() and np.array_equal(actions[:, 1], np.arange(len(actions)) + 0.5)


def test_labels_of_another_kind_are_refused_with_what_to_set(dataset, tmp_path):
    codes, actions = write_labels(dataset, tmp_path / "codes"), write_actions(dataset, tmp_path / "actions")
    actions.check(dataset, window_seconds=0.5, labeller_digest="abc", labeller_kind="inverse-dynamics")
    with pytest.raises(LabelMismatch, match="labeller_kind is inverse-dynamics but this run has latent-action"):
        actions.check(dataset, window_seconds=0.5)
    with pytest.raises(LabelMismatch, match=r"hold codes, not actions. Set pretrain\.target\.kind"):
        codes.actions_of(0)
    with pytest.raises(LabelMismatch, match="hold actions, not codes"):
        actions.codes_of(0)


def test_labels_of_codes_are_the_bytes_that_they_were_before_labels_could_hold_actions(dataset, tmp_path):
    """So earlier manifests are read, and labelling goes on beside shards written then."""
    write_labels(dataset, tmp_path / "labels")
    stamp = json.loads((tmp_path / "labels" / "labels.json").read_text())["stamp"]
    assert sorted(stamp) == [
        "codebook_size", "codes_per_pair", "dataset_revision", "image_size", "labeller_digest", "labeller_kind",
        "window_seconds",
    ]  # fmt: skip
    footer = pq.read_schema(tmp_path / "labels" / "shard-00000.parquet").metadata[b"lapa"]
    assert json.loads(footer)["stamp"] == stamp
