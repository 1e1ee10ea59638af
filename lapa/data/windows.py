"""Windows: the distance between the two frames of a pair, given in seconds, used in timesteps."""

import numpy as np
from jaxtyping import Float, Float32, Float64

from lapa.errors import ConfigError


def window_of(seconds: float, fps: float) -> int:
    """Timesteps nearest to ``seconds`` at ``fps``. Raises ConfigError for a window of less than half a timestep."""
    window = int(seconds * fps + 0.5)
    if window < 1:
        raise ConfigError(
            f"window_seconds={seconds:g} rounds to 0 timesteps at {fps:g} frames per second: both frames of a pair "
            f"would be the same. Use at least {1 / fps:.3g} seconds."
        )
    return window


def summed_actions(actions: Float[np.ndarray, "t a"], window: int) -> Float64[np.ndarray, "m a"]:
    """Sum of the actions taken between both frames of every pair (t, t + window); m = 0 for a short episode."""
    sums = np.concatenate([np.zeros((1, actions.shape[1])), np.cumsum(actions, axis=0, dtype=np.float64)])
    between: np.ndarray = sums[window:-1] - sums[: -window - 1]
    return between


def mean_actions(actions: Float32[np.ndarray, "t a"], window: int) -> Float32[np.ndarray, "m a"]:
    """Mean of the actions taken between both frames of every pair; m = 0 for a short episode."""
    return (summed_actions(actions, window) / window).astype(np.float32)
