"""The linear probe from codes to motion, beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from lapa.data.windows import summed_actions
from lapa.training.probe import code_probe, linear_r2, num_fitted


def test_the_linear_probe_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    features = np.eye(5)[random.integers(5, size=300)]
    targets = features @ random.normal(size=(5, 3)) + random.normal(scale=0.5, size=(300, 3))
    model = Ridge(alpha=1e-3).fit(features[:150], targets[:150])
    expected = r2_score(targets[150:], model.predict(features[150:]), multioutput="uniform_average")
    assert linear_r2(features, targets, fitted=150) == pytest.approx(expected, abs=1e-9)


def test_codes_that_name_motion_score_high_and_shuffled_ones_do_not() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(4, size=(400, 2))
    additive = np.stack([codes[:, 0] * 1.0, codes[:, 1] * -2.0], axis=1)
    scores = code_probe(codes, additive, 4, fitted=200)
    assert scores["additive"] > 0.99 and scores["joint"] > 0.99 and scores["shuffled"] < 0.1
    together = (codes[:, :1] == codes[:, 1:]).astype(float)
    scores = code_probe(codes, together, 4, fitted=200)
    assert scores["joint"] > 0.99 and scores["additive"] < 0.2


def test_motion_is_the_sum_of_the_actions_inside_the_window() -> None:
    actions = np.array([[1.0], [2.0], [4.0], [8.0]])
    assert summed_actions(actions, 2).tolist() == [[3.0], [6.0]]
    assert summed_actions(actions, 4).shape == (0, 1)


@pytest.mark.parametrize(("lengths", "fitted"), [((10, 10), 10), ((30, 4, 6), 30), ((3, 4, 5, 6), 7), ((9,), 4)])
def test_half_of_the_pairs_are_fitted_on_and_no_episode_is_on_both_sides(lengths: tuple[int, ...], fitted: int) -> None:
    assert num_fitted(lengths) == fitted


def test_a_target_that_never_moves_scores_zero() -> None:
    assert linear_r2(np.eye(4)[np.zeros(20, int)], np.zeros((20, 2)), fitted=10) == 0
