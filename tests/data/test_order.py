"""The sample order is a pure function: whole, even, mixed, and blind to ranks and workers."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa.data.order import SampleOrder, own_lanes
from lapa.errors import ConfigError, DataError

counts_lists = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any)


def build(counts, *, lanes=4, shuffle_samples=8, seed=0, per_shard=3):
    counts = np.array(counts, np.int64)
    shards = np.arange(len(counts)) // per_shard
    return SampleOrder(counts, shards, lanes=lanes, shuffle_samples=shuffle_samples, seed=seed)


def every_sample(counts):
    return sorted((episode, t) for episode, count in enumerate(counts) for t in range(count))


@settings(max_examples=100, deadline=None)
@given(counts=counts_lists, lanes=st.integers(1, 9), shuffle=st.integers(1, 40), epoch=st.integers(0, 3))
def test_every_sample_appears_exactly_once_per_epoch(counts, lanes, shuffle, epoch):
    order = build(counts, lanes=lanes, shuffle_samples=shuffle)
    n = order.samples_per_epoch
    assert sorted(order.sample_at(g) for g in range(epoch * n, (epoch + 1) * n)) == every_sample(counts)


@settings(max_examples=50, deadline=None)
@given(counts=counts_lists, lanes=st.integers(1, 5), shuffle=st.integers(1, 20))
def test_blocks_tile_each_lane_and_agree_with_single_samples(counts, lanes, shuffle):
    order = build(counts, lanes=lanes, shuffle_samples=shuffle)
    for lane in range(lanes):
        position = 0
        for _ in range(6):
            block = order.block_at(lane, position)
            assert block.first == position and 1 <= block.size <= shuffle
            drawn = list(zip(block.episodes.tolist(), block.timesteps.tolist(), strict=True))
            counters = [(block.first + i) * lanes + lane for i in range(block.size)]
            assert drawn == [order.sample_at(g) for g in counters]
            position = block.end


def test_epochs_and_seeds_differ_and_equal_seeds_agree():
    counts = [20] * 12
    first = [build(counts).sample_at(g) for g in range(240)]
    assert first == [build(counts).sample_at(g) for g in range(240)]
    assert first != [build(counts).sample_at(g) for g in range(240, 480)]
    assert first != [build(counts, seed=1).sample_at(g) for g in range(240)]


def test_an_order_survives_pickling():
    order = build([5, 0, 9, 3, 7])
    copy = pickle.loads(pickle.dumps(order))
    assert [order.sample_at(g) for g in range(60)] == [copy.sample_at(g) for g in range(60)]


def test_a_block_touches_few_episodes_and_a_batch_many():
    order = build([50] * 64, lanes=8, shuffle_samples=100, per_shard=4)
    assert all(len(set(order.block_at(lane, 0).episodes)) <= 4 for lane in range(8))
    assert len({order.sample_at(g)[0] for g in range(64)}) >= 12


def test_samples_of_a_block_are_shuffled():
    order = build([1000], lanes=1, shuffle_samples=500)
    timesteps = order.block_at(0, 600).timesteps
    neighbours = np.abs(np.diff(timesteps))
    assert neighbours.mean() > 50


def test_lanes_do_not_need_their_next_block_all_at_once():
    order = build([100] * 200, lanes=8, shuffle_samples=256)
    ends = {order.block_at(lane, 300).end % 256 for lane in range(8)}
    assert len(ends) >= 7


@given(
    world=st.sampled_from([1, 2, 4, 8]), workers=st.sampled_from([1, 2]), lanes=st.sampled_from([16, 32]),
)  # fmt: skip
def test_workers_of_all_ranks_own_every_lane_once_in_order(world, workers, lanes):
    owned = [
        lane
        for rank in range(world)
        for worker in range(workers)
        for lane in own_lanes(lanes, batch_size=64, rank=rank, world_size=world, worker=worker, workers=workers)
    ]
    assert owned == list(range(lanes))


def test_a_batch_that_lanes_do_not_divide_is_refused_with_the_nearest_choices():
    with pytest.raises(ConfigError, match="batch_size=8 or 16, or lanes=6"):
        own_lanes(8, batch_size=12, rank=0, world_size=1)


def test_lanes_that_ranks_cannot_share_are_refused():
    with pytest.raises(ConfigError, match="lanes=9"):
        own_lanes(8, batch_size=8, rank=0, world_size=3)


def test_episodes_that_are_all_too_short_are_an_error():
    with pytest.raises(DataError, match="shorter than the window"):
        build([0, 0])
