"""How far a policy's actions are from the recorded ones on episodes it was not trained on.

Through the bundle and `Policy.act`, as a robot would meet it; open loop, so it needs no simulator.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lapa.data.dataset import Dataset
from lapa.data.splits import split_rows
from lapa.data.stream import episode_arrays, episode_frames
from lapa.policy.policy import Policy
from lapa.types.episodes import Observation

MAX_TIMESTEPS = 2000
"""Held-out timesteps compared at most, spread evenly."""


@dataclass(frozen=True, kw_only=True)
class HeldOutError:
    """Mean absolute error of the first action of each chunk, in the robot's own units."""

    policy: Float[np.ndarray, " a"]
    mean_action: Float[np.ndarray, " a"]
    """Of always answering with the training episodes' mean action: what knowing nothing costs."""
    median_action: Float[np.ndarray, " a"]
    """Of always answering with their median action: the best constant for this error, so the sharper test."""
    names: tuple[str, ...]
    timesteps: int

    @property
    def ratio(self) -> float:
        """Policy over mean action, averaged over the dimensions that vary."""
        return self._over_mean(self.policy)

    @property
    def median_ratio(self) -> float:
        """Median action over mean action, the same way: a policy above it does not know more than a constant."""
        return self._over_mean(self.median_action)

    @property
    def verdict(self) -> str:
        share = (
            f"{self.ratio:.0%} of the mean action's (the median action's is {self.median_ratio:.0%}), "
            f"over {self.timesteps} held-out timesteps"
        )
        if self.ratio < min(1.0, self.median_ratio):
            return f"held-out action error is {share}"
        return f"held-out action error is {share}: the policy does not know more than a constant answer"

    def _over_mean(self, error: Float[np.ndarray, " a"]) -> float:
        varies = self.mean_action > 0
        return float((error[varies] / self.mean_action[varies]).mean()) if varies.any() else float("nan")


def held_out_error(
    policy: Policy, dataset: Dataset, *, validation_share: float, use_proprioception: bool, batch_size: int = 64
) -> HeldOutError | None:
    """Compare a policy with the recorded actions of the held-out episodes; None when there are none."""
    training, held_out = split_rows(dataset, validation_share)
    if not len(held_out):
        return None
    known = np.concatenate([episode_arrays(dataset, row)["actions"] for row in training])
    # In float64 the mean of equal numbers is that number, so a dimension that never varies counts as such.
    mean, median = known.mean(axis=0, dtype=np.float64), np.median(known, axis=0)
    total = sum(dataset.index.column("num_frames")[row].as_py() for row in held_out)
    stride = max(1, -(-total // MAX_TIMESTEPS))
    errors, recorded = [], []
    for row in held_out:
        for observations, instructions, actions in _batches(dataset, row, stride, use_proprioception, batch_size):
            chosen = np.stack([chunk.actions[0] for chunk in policy.act(observations, instructions)])
            errors.append(np.abs(chosen - actions))
            recorded.append(actions)
    compared, truth = np.concatenate(errors), np.concatenate(recorded)
    return HeldOutError(
        policy=compared.mean(axis=0),
        mean_action=np.abs(mean - truth).mean(axis=0),
        median_action=np.abs(median - truth).mean(axis=0),
        names=dataset.info.action_names or tuple(f"action_{i}" for i in range(compared.shape[1])),
        timesteps=len(compared),
    )


def some_observations(
    dataset: Dataset, *, validation_share: float, use_proprioception: bool, count: int
) -> list[tuple[Observation, str]]:
    """At most `count` observations with their instructions, one or more an episode, spread evenly over held-out
    episodes; over those that were trained on where none was held out. The same ones every time."""
    training, held_out = split_rows(dataset, validation_share)
    rows = held_out if len(held_out) else training
    chosen = rows[np.linspace(0, len(rows) - 1, num=min(count, len(rows)), dtype=int)]
    shares = np.full(len(chosen), count // len(chosen)) + (np.arange(len(chosen)) < count % len(chosen))
    found = []
    for row, share in zip(chosen, shares, strict=True):
        frames, arrays = episode_frames(dataset, row), episode_arrays(dataset, row)
        instruction = dataset.index.column("instruction")[int(row)].as_py()
        # Inside the episode: its first frame looks like every other's, and its last shows the work done.
        for timestep in np.unique(np.linspace(0, len(frames) - 1, num=int(share) + 2, dtype=int)[1:-1]):
            state = arrays["proprioception"][timestep] if use_proprioception else None
            found.append((Observation(image=frames[timestep], proprioception=state), instruction))
    return found


def _batches(
    dataset: Dataset, row: int, stride: int, use_proprioception: bool, batch_size: int
) -> Iterator[tuple[Sequence[Observation], Sequence[str], np.ndarray]]:
    frames, arrays = episode_frames(dataset, row), episode_arrays(dataset, row)
    instruction = dataset.index.column("instruction")[row].as_py()
    timesteps = range(0, len(frames), stride)
    for start in range(0, len(timesteps), batch_size):
        chosen = timesteps[start : start + batch_size]
        observations = [
            Observation(image=frames[t], proprioception=arrays["proprioception"][t] if use_proprioception else None)
            for t in chosen
        ]
        yield observations, [instruction] * len(observations), arrays["actions"][list(chosen)]
