"""Mutual information beside closed forms and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from lapa.analysis.information import binned, clustered, entropy, information, joint_labels, perplexity, tie


def test_information_of_a_noisy_channel_is_its_closed_form() -> None:
    """Uniform over 4 symbols, each kept with probability 0.7, else one of the other three."""
    random = np.random.default_rng(0)
    sent = random.integers(4, size=20_000)
    received = np.where(random.random(20_000) < 0.7, sent, (sent + random.integers(1, 4, size=20_000)) % 4)
    expected = 2 + 0.7 * np.log2(0.7) + 0.3 * np.log2(0.1)
    assert tie(sent, received, draws=5).bits == pytest.approx(expected, abs=0.02)


def test_uncorrected_information_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    first = random.integers(8, size=500)
    second = (first + random.integers(3, size=500)) % 8
    assert tie(first, second, draws=2).uncorrected == pytest.approx(mutual_info_score(first, second) / np.log(2))


def test_independent_labels_share_nothing_once_corrected() -> None:
    """Counting finds 0.09 bits where there are none; the correction takes them away."""
    random = np.random.default_rng(0)
    found = [tie(random.integers(8, size=400), random.integers(8, size=400), draws=2) for _ in range(20)]
    assert np.mean([item.uncorrected for item in found]) > 0.07
    assert abs(np.mean([item.bits for item in found])) < 0.02


def test_labels_that_drift_slowly_pass_for_chance_only_against_rotated_ones() -> None:
    """Two unrelated slow walks look related; rotating keeps them slow, so chance looks so, too."""
    random = np.random.default_rng(0)
    walks = [binned(np.cumsum(random.normal(size=2000))) for _ in range(2)]
    slow = tie(walks[0], walks[1])
    shuffled = information(random.permutation(walks[0]), walks[1])
    assert slow.chance > 10 * abs(shuffled)
    assert slow.bits < slow.chance


def test_a_deterministic_label_tells_all_of_itself() -> None:
    labels = np.random.default_rng(0).integers(4, size=2000)
    own = tie(labels, labels)
    assert own.bits == pytest.approx(2.0, abs=0.01) and own.share_of_first == pytest.approx(1.0, abs=0.01)
    assert entropy(labels) == pytest.approx(2.0, abs=0.01) and perplexity(labels) == pytest.approx(4.0, abs=0.02)


def test_a_constant_label_tells_nothing() -> None:
    labels = np.random.default_rng(0).integers(4, size=200)
    assert tie(np.zeros(200, int), labels).bits == pytest.approx(0, abs=1e-9)
    assert tie(np.zeros(200, int), labels).share_of_first == 0


def test_bins_hold_alike_many_and_a_gripper_has_two() -> None:
    values = np.random.default_rng(0).normal(size=800)
    assert np.bincount(binned(values)).tolist() == pytest.approx([100] * 8, abs=2)
    assert len(np.unique(binned(np.repeat([0.0, 1.0], [10, 30])))) == 2
    assert len(np.unique(clustered(np.zeros((30, 2))))) == 1


def test_joint_labels_are_equal_exactly_where_rows_are() -> None:
    codes = np.array([[1, 2], [2, 1], [1, 2], [0, 0]])
    labels = joint_labels(codes)
    assert labels[0] == labels[2] and len(set(labels.tolist())) == 3
