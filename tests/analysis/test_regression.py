"""The probes' maps, beside scikit-learn's and on data with a known answer."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from lapa.analysis.regression import JointCodes, code_features, fit, fit_ridge


def test_the_linear_map_is_scikit_learns_ridge_and_its_strength_is_chosen_per_dimension() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(400, 6))
    motion = np.stack([features @ random.normal(size=6), random.normal(size=400)], axis=1)  # all signal, all noise
    found = fit_ridge(features, motion, np.arange(400) // 20)(features)
    weak = Ridge(alpha=1e-3).fit(features, motion).predict(features)
    strong = Ridge(alpha=1e5).fit(features, motion).predict(features)
    assert np.allclose(found[:, 0], weak[:, 0], atol=1e-9)
    assert np.allclose(found[:, 1], strong[:, 1], atol=1e-9)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_linear_probe_finds_the_variance_that_is_linear(share: float) -> None:
    """Motion is a share of linear signal and a rest of noise, so R2 on new data is that share."""
    random = np.random.default_rng(0)
    features = random.normal(size=(6000, 4))
    signal = features @ np.array([0.5, 0.5, -0.5, 0.5])
    motion = (np.sqrt(share) * signal + np.sqrt(1 - share) * random.normal(size=6000))[:, None] * 100 + 7
    predict = fit("linear", features[:4000], motion[:4000], np.arange(4000) // 40)
    assert r2_score(motion[4000:], predict(features[4000:])) == pytest.approx(share, abs=0.03)


def test_a_network_finds_what_no_linear_map_does() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(2, size=(3000, 2))
    motion = np.stack([codes[:, 0] ^ codes[:, 1], codes[:, 0]], axis=1).astype(float)
    features, episodes = code_features(codes, 2), np.arange(3000) // 30
    linear = fit("linear", features[:2000], motion[:2000], episodes[:2000])(features[2000:])
    network = fit("mlp", features[:2000], motion[:2000], episodes[:2000])(features[2000:])
    scores = [r2_score(motion[2000:], found, multioutput="raw_values") for found in (linear, network)]
    assert scores[0][0] < 0.05 and scores[0][1] > 0.99
    assert scores[1][0] > 0.95 and scores[1][1] > 0.95


def test_noise_predicts_nothing_however_many_features_there_are() -> None:
    """The ridge is chosen on other episodes, so 200 useless features do not ruin the score."""
    random = np.random.default_rng(0)
    features, motion = random.normal(size=(900, 200)), random.normal(size=(900, 1))
    predict = fit("linear", features[:500], motion[:500], np.arange(500) // 10)
    assert r2_score(motion[500:], predict(features[500:])) > -0.1


def test_whole_latent_actions_get_an_indicator_each() -> None:
    codes = np.array([[0, 1], [1, 0], [0, 1]])
    features = JointCodes(codes, 2)
    assert features(codes)[:, 4:].tolist() == [[1, 0], [0, 1], [1, 0]]
    assert features(np.array([[1, 1]]))[0, 4:].tolist() == [0, 0]  # never seen while fitting
