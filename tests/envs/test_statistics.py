"""Intervals and paired tests against scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lapa.envs.statistics import Interval, compare_paired, gain_share, mcnemar_exact, wilson_interval


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


def outcomes(rate: float, seeds: int = 3, episodes: int = 400) -> list[np.ndarray]:
    return [np.arange(episodes) % 100 < 100 * rate for _ in range(seeds)]


def test_the_share_of_a_gain_is_its_ratio():
    found = gain_share(outcomes(0.2), outcomes(0.5), outcomes(0.8))
    assert found is not None and found.interval is not None
    assert found.share == pytest.approx(0.5)
    assert 0.35 < found.interval.low < 0.5 < found.interval.high < 0.65


@pytest.mark.parametrize(("method", "share"), [(0.2, 0.0), (0.8, 1.0)])
def test_a_method_that_equals_base_or_ceiling_in_every_episode_is_certainly_there(method: float, share: float):
    found = gain_share(outcomes(0.2), outcomes(method), outcomes(0.8))
    assert found is not None
    assert found.interval == Interval(low=share, high=share)


def test_a_share_is_less_certain_where_seeds_disagree():
    agreeing = gain_share(outcomes(0.2), outcomes(0.5), outcomes(0.8))
    seeds = [outcomes(rate, seeds=1)[0] for rate in (0.3, 0.5, 0.7)]
    disagreeing = gain_share(outcomes(0.2), seeds, outcomes(0.8))
    assert agreeing is not None and agreeing.interval and disagreeing is not None and disagreeing.interval
    assert disagreeing.share == pytest.approx(agreeing.share)
    assert disagreeing.interval.high - disagreeing.interval.low > 2 * (agreeing.interval.high - agreeing.interval.low)


def test_there_is_no_share_of_a_gain_that_is_none():
    assert gain_share(outcomes(0.5), outcomes(0.6), outcomes(0.5)) is None


def test_there_is_no_interval_for_the_share_of_a_gain_that_may_be_none():
    found = gain_share(
        outcomes(0.50, episodes=100), outcomes(0.5, episodes=100), list(reversed_half(outcomes(0.51, episodes=100)))
    )
    assert found is not None
    assert found.interval is None


def reversed_half(parts: list[np.ndarray]):
    """The same rates, reached in other episodes: the difference is then uncertain."""
    for part in parts:
        yield part[::-1]
