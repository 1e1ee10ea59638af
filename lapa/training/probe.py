"""Do the codes mean motion? A linear probe from codes to true actions answers before any policy is trained.

m frame pairs, k codes per frame pair, f features, a action dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays, episode_frames
from lapa.data.windows import episode_windows, summed_actions

LARGEST_JOINT = 1024
"""More latent actions than this are too many for one indicator each; the probe is then additive only."""


@dataclass(frozen=True, kw_only=True)
class ProbeEpisode:
    """Frames of a labelled episode, and the motion from each timestep to one window later."""

    frames: UInt8[np.ndarray, "t h w 3"]
    window: int
    motion: Float64[np.ndarray, "m a"]


def probe_episodes(dataset: Dataset, *, window_seconds: float, max_pairs: int = 2000) -> list[ProbeEpisode]:
    """Labelled episodes, from the first on, until there are `max_pairs` frame pairs."""
    episodes: list[ProbeEpisode] = []
    windows, labelled = episode_windows(dataset, window_seconds).tolist(), dataset.index["has_actions"].to_pylist()
    lengths, pairs = dataset.index["num_frames"].to_pylist(), 0
    for row, has_actions in enumerate(labelled):
        window = windows[row]
        if not has_actions or lengths[row] <= window:
            continue
        motion = summed_actions(episode_arrays(dataset, row)["actions"], window)
        episodes.append(ProbeEpisode(frames=episode_frames(dataset, row), window=window, motion=motion))
        pairs += len(motion)
        if pairs >= max_pairs:
            break
    return episodes


def num_fitted(lengths: Sequence[int]) -> int:
    """How many pairs a probe is fitted on, of episodes with so many: those of the first episodes, about half of all.

    Neighbouring pairs share frames, so an episode is on one side alone; an only one has to be split in its middle.
    """
    ends = np.cumsum(lengths)
    if len(ends) < 2:
        return int(ends[-1]) // 2
    return int(ends[np.abs(ends[:-1] - ends[-1] / 2).argmin()])


def code_probe(
    codes: Int64[np.ndarray, "m k"], motion: Float64[np.ndarray, "m a"], codebook_size: int, *, fitted: int
) -> dict[str, float]:
    """R2 of linear maps, on the pairs after the first `fitted` ones, on which they are fitted.

    `additive` sees which code stands at each position, `joint` also which whole latent action it is;
    `shuffled` is `additive` with codes and motion out of step: what chance explains.
    """
    indicators = np.eye(codebook_size)[codes]  # m k s
    additive = indicators.reshape(len(codes), -1)
    scores = {"additive": linear_r2(additive, motion, fitted=fitted)}
    if codebook_size ** codes.shape[1] <= LARGEST_JOINT:
        places = codes @ codebook_size ** np.arange(codes.shape[1])
        joint = np.eye(codebook_size ** codes.shape[1])[places]
        scores["joint"] = linear_r2(np.concatenate([additive, joint], axis=1), motion, fitted=fitted)
    order = np.random.default_rng(0).permutation(len(codes))
    scores["shuffled"] = linear_r2(additive[order], motion, fitted=fitted)
    return scores


def linear_r2(features: np.ndarray, targets: np.ndarray, *, fitted: int, ridge: float = 1e-3) -> float:
    """R2 on the pairs after the first `fitted` ones, averaged over target dimensions that vary. A little ridge leaves
    features that the fitted pairs never show at zero."""
    mean, offset = features[:fitted].mean(0), targets[:fitted].mean(0)
    x, y = features[:fitted] - mean, targets[:fitted] - offset
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
    predicted, truth = (features[fitted:] - mean) @ weights + offset, targets[fitted:]
    total = np.square(truth - truth.mean(0)).sum(0)
    varies = total > 1e-12
    if not varies.any():
        return 0.0
    residual = np.square(truth - predicted).sum(0)
    return float((1 - residual[varies] / total[varies]).mean())
