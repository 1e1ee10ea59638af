"""Intervals and paired tests against scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lapa.envs.statistics import Interval, compare_paired, mcnemar_exact, wilson_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (7, 10), (129, 180), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_wilson_interval_is_scipys(successes: int, trials: int, confidence: float):
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(successes, trials, confidence)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_wilson_interval_of_a_known_case():
    interval = wilson_interval(8, 10)
    assert interval == Interval(low=pytest.approx(0.4902, abs=1e-4), high=pytest.approx(0.9433, abs=1e-4))


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="is not a rate"):
        wilson_interval(0, 0)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (9, 2), (2, 9), (60, 31)])
def test_mcnemars_exact_test_is_scipys_sign_test(wins: int, losses: int):
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar_exact(wins, losses) == pytest.approx(expected)


def test_paired_policies_are_counted_episode_by_episode():
    first = np.array([True, True, True, False, False])
    second = np.array([True, False, False, True, False])
    comparison = compare_paired(first, second)
    assert (comparison.wins, comparison.losses, comparison.ties) == (2, 1, 2)
    assert comparison.difference == pytest.approx(0.2)
    paired = first.astype(float) - second
    assert comparison.standard_error == pytest.approx(paired.std() / np.sqrt(5))
    assert comparison.p_value == 1.0
