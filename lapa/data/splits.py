"""Which episodes are held out: decided by a hash of the episode's id, so that adding data moves no episode.

What is before an `@` in an id names a recording that several episodes are views or clips of: they share one fate, since
they show the same scene.
"""

import numpy as np
from jaxtyping import Int64

from lapa import files
from lapa.data.dataset import Dataset

Rows = Int64[np.ndarray, " _e"]
"""Rows of the dataset's index, ascending."""


def split_rows(dataset: Dataset, share: float) -> tuple[Rows, Rows]:
    """Rows to train on and rows to hold out.

    With a share above 0 and at least two recordings neither is empty: where the hash would leave one so, the
    recording nearest to the boundary changes sides. An only recording is there to train on.
    """
    places = np.array([_place("validation", episode) for episode in dataset.index["episode"].to_pylist()])
    held_out = places < share
    recordings = len(np.unique(places))
    if share > 0 and recordings > 1:
        if not held_out.any():
            held_out[places == places.min()] = True
        elif held_out.all():
            held_out[places == places.max()] = False
    if recordings == 1:
        held_out[:] = False
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def is_chosen(purpose: str, episode_id: str, share: float) -> bool:
    """Whether an episode is among the `share` that serves a purpose; a larger share only adds episodes."""
    return _place(purpose, episode_id) < share


def _place(purpose: str, episode_id: str) -> float:
    """Uniform in [0, 1) over recordings."""
    return int(files.digest(purpose, episode_id.partition("@")[0])[:13], 16) / 16**13
