"""How much the robot moves over a window: what the recorded motion is normalized by.

a action dimensions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays
from lapa.data.splits import is_chosen, split_rows
from lapa.data.windows import episode_windows, mean_actions
from lapa.errors import DataError

MEASURED_EPISODES = 256
"""Statistics come from no more episodes than this, spread evenly over the chosen ones."""


@dataclass(frozen=True, kw_only=True)
class MotionStatistics:
    """Of the mean action over the window, in the chosen training episodes."""

    mean: Float32[np.ndarray, " a"]
    std: Float32[np.ndarray, " a"]
    """1 for a dimension that never varies."""
    share: float
    """Of all training pairs, those whose motion is told."""


def motion_statistics(
    dataset: Dataset, *, window_seconds: float, share: float, validation_share: float
) -> MotionStatistics:
    """Statistics of what `SampleSpec.motion_share` tells. DataError where that is nothing."""
    rows = split_rows(dataset, validation_share)[0]
    names, windows = dataset.index["episode"].to_pylist(), episode_windows(dataset, window_seconds).tolist()
    lengths, has_actions = dataset.index["num_frames"].to_pylist(), dataset.index["has_actions"].to_pylist()
    pairs = {row: max(0, lengths[row] - windows[row]) for row in rows.tolist()}
    told = [row for row in pairs if pairs[row] and has_actions[row] and is_chosen("motion", names[row], share)]
    if not told:
        raise DataError(
            f"No training episode of {dataset.url} has actions ({sum(has_actions)} have), is longer than "
            f"laq.window_seconds={window_seconds:g} and among the share={share:g} that is read. Lower the window, "
            "raise laq.supervision.share, use episodes that come with recorded actions, or set laq.supervision to null."
        )
    chosen = [told[place] for place in np.unique(np.linspace(0, len(told) - 1, MEASURED_EPISODES).round().astype(int))]
    motion = np.concatenate([mean_actions(episode_arrays(dataset, row)["actions"], windows[row]) for row in chosen])
    std = motion.std(0)
    return MotionStatistics(
        mean=motion.mean(0),
        std=np.where(std > 1e-6, std, 1.0).astype(np.float32),
        share=sum(pairs[row] for row in told) / sum(pairs.values()),
    )
