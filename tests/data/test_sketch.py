"""One pass over numbers, in any cuts, gives the statistics of all of them."""

import numpy as np
import pytest

from lapa.data.sketch import Sketch
from lapa.data.statistics import action_statistics
from lapa.errors import DataError
from lapa.models.vla.action_space import fit_action_space, summarized_action_space

SHARES = np.linspace(0, 1, 257).tolist()


@pytest.fixture(scope="module")
def numbers():
    """A random walk, a heavy tail and a gripper, far from zero and unsorted."""
    random = np.random.default_rng(0)
    walk = 1000 + np.cumsum(random.normal(size=60_000))
    columns = [walk, random.standard_t(2, 60_000), (random.random(60_000) < 0.3).astype(float)]
    return np.stack(columns, axis=1).astype(np.float32)


def sketch_of(numbers, parts):
    return Sketch.of(np.array_split(numbers, parts), exact_rows=1000)


def test_quantiles_are_within_a_thousandth_of_the_rows_and_nothing_is_kept(numbers):
    sketch = sketch_of(numbers, 31)
    assert sketch.exact is None
    found = sketch.quantiles(SHARES)
    for place in range(2):
        ordered = np.sort(numbers[:, place])
        ranks = np.searchsorted(ordered, found[:, place]) / len(ordered)
        assert np.abs(ranks - SHARES).max() < 1e-3
        assert (np.diff(found[:, place]) >= 0).all()
    assert set(found[:, 2].tolist()) == {0.0, 1.0}


def test_moments_and_extremes_are_those_of_all_rows(numbers):
    sketch = sketch_of(numbers, 31)
    mean, std = sketch.mean_and_std()
    np.testing.assert_allclose(mean, numbers.mean(0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(std, numbers.std(0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_array_equal(sketch.extremes(), [numbers.min(0), numbers.max(0)])


def test_how_the_rows_are_cut_changes_no_quantile(numbers):
    one, other = sketch_of(numbers, 3), sketch_of(numbers, 700)
    assert one.quantiles(SHARES).tolist() == other.quantiles(SHARES).tolist()


def test_few_rows_are_exact(numbers):
    sketch = Sketch.of(np.array_split(numbers, 9))
    np.testing.assert_array_equal(sketch.exact, numbers)
    np.testing.assert_array_equal(sketch.quantiles([0.01, 0.5]), np.quantile(numbers, [0.01, 0.5], axis=0))


def test_an_action_space_from_a_sketch_has_the_bins_of_one_from_all_actions(numbers):
    found = summarized_action_space(sketch_of(numbers, 5), ("walk", "tail", "gripper"), 16)
    wanted = fit_action_space(numbers, ("walk", "tail", "gripper"), 16)
    assert [dimension.kind for dimension in found.dimensions] == ["continuous", "continuous", "discrete"]
    assert found.dimensions[2].entries == (0.0, 1.0)
    for mine, exact in zip(found.dimensions[:2], wanted.dimensions[:2], strict=True):
        np.testing.assert_allclose(mine.entries[1:-1], exact.entries[1:-1], atol=0.01 * exact.std)
        assert (mine.min, mine.max) == (exact.min, exact.max)


def test_statistics_hold_the_edges_of_bins_of_equal_frequency(numbers):
    found = action_statistics(iter(np.array_split(numbers, 4)))
    assert len(found.bins[0]) == 257 and found.bins[2] == (0.0, 1.0)
    counted, _ = np.histogram(numbers[:, 0].astype(np.float64), found.bins[0])
    assert counted.max() - counted.min() <= 0.2 * counted.mean()


def test_a_number_that_is_none_is_refused():
    with pytest.raises(DataError, match="NaN or infinite"):
        Sketch.of([np.array([[1.0], [np.nan]])])
