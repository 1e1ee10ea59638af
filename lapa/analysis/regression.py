"""Maps from latents to motion: ridge regression and a small network, fitted on some episodes for other ones.

m frame pairs, f features, a dimensions, k codes per frame pair.
"""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

from lapa.analysis.probe_results import Probe
from lapa.training.probe import LARGEST_JOINT

RIDGES = (1e-3, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e5)
"""The last leaves hardly more than the mean."""
FOLDS = 4
"""Of the fitting episodes: they choose the ridge, then everything is fitted again."""

Features = Float[np.ndarray, "m f"]
Motion = Float[np.ndarray, "m a"]
Predictor = Callable[[np.ndarray], np.ndarray]
"""Features (m f) -> motion (m a)."""


def fit(probe: Probe, features: Features, motion: Motion, episodes: Int64[np.ndarray, " m"]) -> Predictor:
    """Motion is scaled to its own spread per dimension; one that never varies is no trouble. Features are scaled all
    alike: blowing up the indicator of a rare code would free it from the ridge."""
    centre, scale = features.mean(axis=0), float(np.sqrt(features.var(axis=0).mean())) or 1.0
    offset, spread = motion.mean(axis=0), _scale(motion)
    x, y = (features - centre) / scale, (motion - offset) / spread
    model = fit_ridge(x, y, episodes) if probe == "linear" else _fit_network(x, y)

    def predict(new: np.ndarray) -> np.ndarray:
        return model((new - centre) / scale) * spread + offset

    return predict


def fit_ridge(features: Features, motion: Motion, episodes: Int64[np.ndarray, " m"]) -> Predictor:
    """Linear; every dimension with the ridge that serves held-out fitting episodes best, in turn."""
    groups = np.unique(episodes)
    turn = np.random.default_rng(0).permutation(np.arange(len(groups)) % FOLDS)[np.searchsorted(groups, episodes)]
    errors = np.zeros((len(RIDGES), motion.shape[1]))
    for held in (turn == fold for fold in range(min(FOLDS, len(groups)))):
        if held.all():
            return _linear(features, motion, np.full(motion.shape[1], RIDGES[1]))
        for i, ridge in enumerate(RIDGES):
            predict = _linear(features[~held], motion[~held], np.full(motion.shape[1], ridge))
            errors[i] += np.square(predict(features[held]) - motion[held]).sum(axis=0)
    return _linear(features, motion, np.array(RIDGES)[errors.argmin(axis=0)])


def code_features(codes: Int64[np.ndarray, "m k"], codebook_size: int) -> Features:
    """One indicator for every code at every position."""
    return np.eye(codebook_size)[codes].reshape(len(codes), -1)


class JointCodes:
    """Indicators of positions and of the whole latent actions that the fitting pairs show, up to `LARGEST_JOINT`."""

    def __init__(self, codes: Int64[np.ndarray, "m k"], codebook_size: int) -> None:
        self.codebook_size = codebook_size
        seen, counts = np.unique(codes, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:LARGEST_JOINT]
        self._columns = {tuple(row): column for column, row in enumerate(seen[order].tolist())}

    def __call__(self, codes: Int64[np.ndarray, "m k"]) -> Features:
        joint = np.zeros((len(codes), len(self._columns)))
        for row, code in enumerate(map(tuple, codes.tolist())):
            if (column := self._columns.get(code)) is not None:
                joint[row, column] = 1.0
        return np.concatenate([code_features(codes, self.codebook_size), joint], axis=1)


def _linear(features: Features, motion: Motion, ridges: Float[np.ndarray, " a"]) -> Predictor:
    model = Ridge(alpha=ridges).fit(features, motion)
    return lambda new: np.asarray(model.predict(new)).reshape(len(new), -1)  # scikit-learn drops an only dimension


def _fit_network(features: Features, motion: Motion) -> Predictor:
    model = MLPRegressor(hidden_layer_sizes=(64,), alpha=1e-2, learning_rate_init=3e-3, max_iter=120, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed budget, alike for every comparison
        model.fit(features, motion if motion.shape[1] > 1 else motion[:, 0])
    return lambda new: np.asarray(model.predict(new)).reshape(len(new), -1)


def _scale(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    return np.where(spread > 1e-9, spread, 1.0)
