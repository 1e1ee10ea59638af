"""Training reads a bucket of a real S3 server through a proxy that breaks requests: nothing that it sees changes."""

import itertools
import logging
import os
from contextlib import suppress

import fsspec
import numpy as np
import pytest
import torch

from lapa import files
from lapa.config.data import StreamConfig
from lapa.config.reads import CacheConfig, ReadConfig
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays, episode_frames, shard_episodes
from lapa.data.objects import ObjectReader
from lapa.data.stream import SampleSpec, training_batches
from lapa.errors import AccessRefused, DataError
from tests.builders import make_dataset
from tests.s3_faults import FAULTS, faulty_proxy
from tests.s3_server import S3Server, s3

__all__ = ["s3"]  # the fixture

LENGTHS = [12, 20, 9, 17, 16, 25, 8, 14]
SPEC = SampleSpec(window_seconds=0.5, horizon=2)
SHARD = "shard-00001.tar"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return Dataset.open(make_dataset(tmp_path_factory.mktemp("data"), frames=LENGTHS, episodes_per_shard=3))


@pytest.fixture(scope="module")
def bucket(s3: S3Server, local):
    """The same dataset in a bucket."""
    return copied(local, f"{s3.new_bucket('stream')}/dataset")


@pytest.fixture
def small_blocks(monkeypatch):
    """So that a small dataset is many requests."""
    monkeypatch.setattr("lapa.data.objects.BLOCK_BYTES", 4096)


def copied(dataset: Dataset, url: str) -> str:
    for shard in range(dataset.info.num_shards):
        name = files.name_of(dataset.shard_url(shard))
        files.write_bytes(files.join(url, "shards", name), files.read_bytes(dataset.shard_url(shard)))
    for name in ("index.parquet", "dataset.json"):
        files.write_bytes(files.join(url, name), files.read_bytes(files.join(dataset.url, name)))
    return url


def reads(folder, *, attempts=12, max_bytes=10**9) -> ReadConfig:
    """One folder per test: a reader is shared by all that have the same settings."""
    cache = CacheConfig(dir=str(folder), max_bytes=max_bytes)
    return ReadConfig(cache=cache, attempts=attempts, backoff_seconds=0.01)


def batches(dataset, steps=12, *, start=0, workers=0, rank=0, world=1):
    config = StreamConfig(lanes=8, shuffle_samples=7, validation_share=0.2, workers=workers)
    stream = training_batches(
        dataset, SPEC, config, batch_size=16, seed=3, start_step=start, rank=rank, world_size=world
    )
    return list(itertools.islice(stream, steps))


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for name in ("episode", "timestep", "current", "future", "actions"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("seed", [5, 8])
def test_broken_requests_change_nothing_that_training_sees(s3, bucket, local, small_blocks, tmp_path, seed):
    with faulty_proxy(s3, rate=0.1, seed=seed) as proxy:
        seen = batches(Dataset.open(bucket, reads=reads(tmp_path)))
        assert sum(proxy.faults.values()) > 0
    assert_same(seen, batches(local))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_kind_of_broken_request_is_borne(s3, bucket, local, small_blocks, tmp_path, fault, monkeypatch):
    """The first and every third request for one shard; of those that hang, which cost seconds each, two."""
    pattern = [fault, None, None]
    turns = itertools.chain(
        pattern, pattern, itertools.repeat(None) if fault == "timeout" else itertools.cycle(pattern)
    )
    with faulty_proxy(s3, rate=0, has_timeouts=fault == "timeout") as proxy:
        monkeypatch.setattr(proxy, "_fault", lambda path: next(turns) if path.endswith(SHARD) else None)
        found = dict(shard_episodes(Dataset.open(bucket, reads=reads(tmp_path)), 1))
        assert proxy.faults[fault] > 0
    assert {row: frames.tolist() for row, frames in found.items()} == {
        row: frames.tolist() for row, frames in shard_episodes(local, 1)
    }


def test_without_a_cache_and_with_a_worker_broken_requests_change_nothing_either(s3, bucket, local):
    without = ReadConfig(cache=None, attempts=12, backoff_seconds=0.01)
    with faulty_proxy(s3, rate=0.1, seed=2) as proxy:
        seen = batches(Dataset.open(bucket, reads=without), steps=4, workers=1)
        assert sum(proxy.faults.values()) > 0
    assert_same(seen, batches(local, steps=4))


def test_an_object_that_stays_broken_ends_training_with_its_name(s3, bucket, tmp_path):
    with faulty_proxy(s3, rate=0) as proxy:
        proxy.always[SHARD] = "slow-down"
        dataset = Dataset.open(bucket, reads=reads(tmp_path, attempts=2))
        with pytest.raises(DataError, match=rf"s3://.*{SHARD} cannot be read: 2 attempts failed, .*Unavailable"):
            batches(dataset)


def test_an_object_that_may_not_be_read_is_named_at_once(s3, bucket, tmp_path, caplog):
    with faulty_proxy(s3, rate=0) as proxy:
        proxy.always[SHARD] = "denied"
        dataset = Dataset.open(bucket, reads=reads(tmp_path))
        with pytest.raises(DataError, match=rf"{SHARD} cannot be read: PermissionError.*credentials"):
            batches(dataset)
    assert not [record for record in caplog.records if "attempt=" in record.getMessage()]


def test_credentials_that_the_store_refuses_are_named_with_what_they_were_used_for(s3, bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "stale")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        for action in (files.exists, files.read_bytes, files.list_names, files.remove, Dataset.open):
            with pytest.raises(
                AccessRefused, match=r"s3://.* may not be used \(.*\)\. Check the credentials"
            ) as refused:
                action(bucket if action is not files.read_bytes else files.join(bucket, "dataset.json"))
            assert refused.value.exit_code == DataError.exit_code
        with pytest.raises(AccessRefused, match="s3://"):
            files.write_bytes(files.join(bucket, "more"), b"1")
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_missing_object_is_named_at_once(s3, local, tmp_path):
    url = copied(local, f"{s3.new_bucket('missing')}/dataset")
    files.remove(files.join(url, "shards", SHARD))
    with pytest.raises(DataError, match=rf"{SHARD} is missing. Run the ingest stage again"):
        batches(Dataset.open(url, reads=reads(tmp_path)))


def test_every_block_is_requested_once_by_all_ranks_and_epochs_of_a_node(s3, bucket, small_blocks, tmp_path):
    """More than one epoch of two ranks, which are two readers with one folder."""
    with faulty_proxy(s3, rate=0) as proxy:
        for rank in range(2):
            settings = reads(tmp_path).model_copy(update={"threads": 1 + rank})
            batches(Dataset.open(bucket, reads=settings), steps=8, rank=rank, world=2)
        requests = sum(count for key, count in proxy.requests.items() if key.startswith("GET") and ".tar" in key)
    assert requests == len(list((tmp_path / "blocks").iterdir()))


def test_a_cache_smaller_than_the_dataset_is_correct_and_bounded(s3, bucket, local, small_blocks, tmp_path):
    seen = batches(Dataset.open(bucket, reads=reads(tmp_path, max_bytes=20_000)))
    assert_same(seen, batches(local))
    stored = 0
    for entry in os.scandir(tmp_path / "blocks"):
        with suppress(FileNotFoundError):  # what is read ahead may still make room for itself
            stored += entry.stat().st_size
    assert 0 < stored <= 20_000


def test_a_shard_that_was_written_anew_is_read_anew(s3, tmp_path):
    """By an address that a cache holds blocks of already, in a process that has read it already."""
    url, settings = f"{s3.new_bucket('anew')}/dataset", reads(tmp_path)
    for image_size in (48, 96):
        make_dataset(url, frames=[9, 9], image_size=image_size)
        expected = Dataset.open(make_dataset(tmp_path / str(image_size), frames=[9, 9], image_size=image_size))
        assert np.array_equal(episode_frames(Dataset.open(url, reads=settings), 1), episode_frames(expected, 1))


def test_bytes_of_two_versions_of_an_object_never_meet(s3, small_blocks, tmp_path, caplog):
    url = f"{s3.new_bucket('versions')}/object"
    reader = ObjectReader(reads(tmp_path))
    old, new = (np.random.default_rng(seed).bytes(20_000) for seed in (1, 2))
    files.write_bytes(url, old)
    assert reader.read(url, 0, 100, revision="a") == old[:100]
    files.write_bytes(url, new)
    with caplog.at_level(logging.WARNING):
        assert reader.read(url, 9000, 9100, revision="a") == new[9000:9100]
    assert "attempt=1" in caplog.text  # the server refused to mix them
    assert reader.read(url, 0, 100, revision="a") == new[:100]
    assert ObjectReader(reads(tmp_path)).read(url, 0, 20_000, revision="a") == new


def test_a_block_that_a_disk_changed_is_fetched_again(s3, bucket, local, small_blocks, tmp_path):
    dataset = Dataset.open(bucket, reads=reads(tmp_path))
    episode_frames(dataset, 4)
    for path in (tmp_path / "blocks").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    assert np.array_equal(episode_frames(dataset, 4), episode_frames(local, 4))
    assert np.array_equal(episode_arrays(dataset, 4)["actions"], episode_arrays(local, 4)["actions"])


def test_an_index_that_expects_more_than_an_object_has_names_it(s3, small_blocks, tmp_path):
    url = f"{s3.new_bucket('short')}/object"
    files.write_bytes(url, bytes(10_000))
    with pytest.raises(DataError, match=r"object ends before byte 30000"):
        ObjectReader(reads(tmp_path)).read(url, 9000, 30_000, revision="a")
