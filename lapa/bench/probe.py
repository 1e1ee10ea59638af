"""Do the labels mean motion? A linear probe from codes, or labelled actions, to the videos' true actions.

Methods that learn without actions never see these; the study knows them because it recorded the videos.
"""

import numpy as np

from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays
from lapa.data.labels import Labels
from lapa.data.windows import episode_windows, summed_actions
from lapa.training.probe import code_probe, linear_r2, num_fitted

MAX_PAIRS = 8000


def motion_r2(labels_url: str, dataset_url: str) -> float | None:
    """R2 on half of the episodes of a linear map fitted on the other half; None without recorded actions."""
    labels, dataset = Labels.open(labels_url), Dataset.open(dataset_url)
    if not dataset.info.has_actions:
        return None
    stamp = labels.stamp
    is_latent = stamp.labeller_kind == "latent-action"
    windows = episode_windows(dataset, stamp.window_seconds).tolist()
    named, motions = [], []
    for row in range(len(dataset)):
        label = labels.codes_of(row) if is_latent else labels.actions_of(row)
        if not len(label):
            continue
        motion = summed_actions(episode_arrays(dataset, row)["actions"], windows[row])
        named.append(label)
        motions.append(motion[: len(label)])
        if sum(map(len, named)) >= MAX_PAIRS:
            break
    if sum(map(len, named)) < 2:
        return None
    names, motion, fitted = np.concatenate(named), np.concatenate(motions), num_fitted([len(part) for part in named])
    if not is_latent:
        return linear_r2(names, motion, fitted=fitted)
    scores = code_probe(names, motion, stamp.codebook_size, fitted=fitted)
    return max(score for name, score in scores.items() if name != "shuffled")
