import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa.config.vla import BinnedHead
from lapa.errors import DataError
from lapa.models.vla.action_space import ActionSpace, fit_action_space
from lapa.models.vla.heads.binned import BinnedActionHead


def to_bins(space: ActionSpace, actions: np.ndarray) -> np.ndarray:
    """Bin of each value, as the head that trains on them sees it."""
    head = BinnedActionHead(BinnedHead(), space, width=4, std=0.02)
    return head.to_bins(torch.from_numpy(actions).float()[:, None])[:, 0].numpy()


def from_bins(space: ActionSpace, bins: np.ndarray) -> np.ndarray:
    """Value of each bin, as the head decodes it."""
    head = BinnedActionHead(BinnedHead(), space, width=4, std=0.02)
    logits = torch.nn.functional.one_hot(torch.from_numpy(bins), head.rows).float()
    return head.decode(logits)[:, 0].numpy()


def gripper_data(n: int = 500) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.normal(size=n), rng.exponential(size=n), rng.integers(0, 2, size=n)], axis=-1)


def test_bins_hold_equally_many_samples():
    actions = gripper_data(1600)
    space = fit_action_space(actions, bins=16)
    counts = np.bincount(to_bins(space, actions)[:, 0], minlength=16)
    assert counts.min() >= 99 and counts.max() <= 101


def test_a_gripper_decodes_to_the_values_it_was_recorded_with():
    actions = gripper_data()
    space = fit_action_space(actions, names=("x", "y", "gripper"), bins=16)
    assert [d.kind for d in space.dimensions] == ["continuous", "continuous", "discrete"]
    assert np.array_equal(from_bins(space, to_bins(space, actions))[:, 2], actions[:, 2])


def test_a_constant_dimension_has_one_bin():
    space = fit_action_space(np.full((10, 1), 0.3), bins=8)
    assert space.dimensions[0].bins == 1
    assert from_bins(space, np.zeros((1, 1), dtype=np.int64)) == pytest.approx(0.3)


def test_values_beyond_the_edges_fall_into_the_outer_bins():
    space = fit_action_space(gripper_data(), bins=16)
    assert to_bins(space, np.array([[-100.0, 100.0, 7.0]])).tolist() == [[0, 15, 1]]


def test_repeated_quantiles_are_dropped():
    actions = np.concatenate([np.zeros(900), np.linspace(-1, 1, 100)])[:, None]
    assert fit_action_space(actions, bins=16).dimensions[0].bins < 16


def test_recorded_nan_is_refused():
    with pytest.raises(DataError, match="NaN"):
        fit_action_space(np.array([[np.nan]]))


def test_an_action_space_survives_json():
    space = fit_action_space(gripper_data(), bins=16)
    assert ActionSpace.model_validate_json(space.model_dump_json()) == space


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=60), st.integers(2, 32))
def test_a_decoded_bin_lies_inside_the_recorded_range_and_in_its_own_bin(values, bins):
    actions = np.array(values)[:, None]
    space = fit_action_space(actions, bins=bins)
    dimension = space.dimensions[0]
    index = np.arange(dimension.bins)[:, None]
    decoded = from_bins(space, index)
    assert decoded.min() >= actions.min() and decoded.max() <= actions.max()
    if np.diff(dimension.entries, prepend=-np.inf).min() > 1e-3:  # finer ones are one number in float32
        assert np.array_equal(to_bins(space, decoded), index)
