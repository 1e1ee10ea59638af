"""R2 and its interval beside scikit-learn's and a known answer."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from lapa.analysis.scores import mean_interval, r2_scores


def test_r2_agrees_with_scikit_learn_per_dimension_and_on_average() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(300, 3)) * [1.0, 10.0, 0.1]
    predicted = truth + random.normal(size=(300, 3)) * [0.5, 1.0, 0.2]
    mean, named = r2_scores(truth, predicted, np.arange(300) // 10, ("x", "y", "z"))
    expected = r2_score(truth, predicted, multioutput="raw_values")
    assert [named[name].r2 for name in "xyz"] == pytest.approx(expected.tolist(), abs=1e-9)
    assert mean.r2 == pytest.approx(expected.mean(), abs=1e-9)


def test_a_dimension_that_never_varies_has_no_score_and_does_not_count() -> None:
    truth = np.stack([np.arange(20.0), np.full(20, 3.0)], axis=1)
    mean, named = r2_scores(truth, truth, np.arange(20) // 5, ("moves", "rests"))
    assert named["rests"].r2 is None and named["moves"].r2 == pytest.approx(1.0)
    assert mean.r2 == pytest.approx(1.0)
    assert r2_scores(truth[:, 1:], truth[:, 1:], np.arange(20) // 5, ("rests",))[0].r2 is None


def test_the_interval_holds_the_true_value_and_narrows_with_more_episodes() -> None:
    def interval(episodes: int) -> tuple[float, float]:
        random = np.random.default_rng(1)
        truth = random.normal(size=(episodes * 20, 1))
        predicted = truth + random.normal(size=truth.shape) * 0.5  # residual variance 0.25 of 1
        score = r2_scores(truth, predicted, np.repeat(np.arange(episodes), 20), ("x",))[0]
        assert score.low is not None and score.high is not None
        assert score.low < 0.75 < score.high
        return score.low, score.high

    few, many = interval(10), interval(160)
    assert many[1] - many[0] < (few[1] - few[0]) / 2


def test_pairs_of_one_episode_do_not_count_as_independent() -> None:
    """Ten episodes of one value each: as uncertain as ten numbers, however often each is repeated."""
    values = np.random.default_rng(0).normal(size=10)
    _, low, high = mean_interval(np.repeat(values, 100), np.repeat(np.arange(10), 100))
    assert high - low > values.std() / np.sqrt(10)
