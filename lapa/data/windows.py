"""Windows: the distance between the two frames of a pair, given in seconds, used in timesteps."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from lapa.data.dataset import Dataset
from lapa.errors import ConfigError

ROUNDING = 1e-6
"""Of a timestep: strides such as 30 / 29.97 are not exact."""


def window_of(seconds: float, fps: float) -> int:
    """Timesteps nearest to ``seconds`` at ``fps``. Raises ConfigError for a window of less than half a timestep."""
    window = int(seconds * fps + 0.5)
    if window < 1:
        raise ConfigError(
            f"window_seconds={seconds:g} rounds to 0 timesteps at {fps:g} frames per second: both frames of a pair "
            f"would be the same. Use at least {1 / fps:.3g} seconds."
        )
    return window


def episode_windows(dataset: Dataset, seconds: float) -> Int64[np.ndarray, " e"]:
    """The window of each episode, in its own timesteps; a mixture's members may have other seconds of theirs."""
    told = per_episode(dataset, {member.name: member.window_seconds or seconds for member in dataset.info.members})
    wanted = np.full(len(dataset), seconds) if told is None else told
    pairs = np.stack([wanted, dataset.index["fps"].to_numpy()], axis=1)
    different, places = np.unique(pairs, axis=0, return_inverse=True)
    return np.array([window_of(*pair) for pair in different.tolist()], np.int64)[places.reshape(-1)]


def sample_strides(dataset: Dataset) -> Float64[np.ndarray, " e"]:
    """Timesteps between the starts of one episode's samples: above 1 where a mixture has a lower rate."""
    fps = dataset.index["fps"].to_numpy()
    rates = per_episode(dataset, {member.name: member.fps or np.inf for member in dataset.info.members})
    return np.ones(len(dataset)) if rates is None else np.maximum(fps / rates, 1.0)


def starts(lengths: Int64[np.ndarray, " e"], strides: Float64[np.ndarray, " e"]) -> Int64[np.ndarray, " e"]:
    """How many samples begin in the first ``lengths`` timesteps of each episode."""
    return np.ceil(np.maximum(lengths, 0) / strides - ROUNDING).astype(np.int64)


def per_episode(dataset: Dataset, by_member: Mapping[str, float]) -> Float64[np.ndarray, " e"] | None:
    """A number of each member at all of its episodes; None for a dataset that is no mixture."""
    members = dataset.info.members
    if not members:
        return None
    return np.repeat([by_member[member.name] for member in members], [member.num_episodes for member in members])


def summed_actions(actions: Float[np.ndarray, "t a"], window: int) -> Float64[np.ndarray, "m a"]:
    """Sum of the actions taken between both frames of every pair (t, t + window); m = 0 for a short episode."""
    sums = np.concatenate([np.zeros((1, actions.shape[1])), np.cumsum(actions, axis=0, dtype=np.float64)])
    between: np.ndarray = sums[window:-1] - sums[: -window - 1]
    return between


def mean_actions(actions: Float32[np.ndarray, "t a"], window: int) -> Float32[np.ndarray, "m a"]:
    """Mean of the actions taken between both frames of every pair; m = 0 for a short episode."""
    return (summed_actions(actions, window) / window).astype(np.float32)
