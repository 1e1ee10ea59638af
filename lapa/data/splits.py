"""Which episodes are held out: decided by a hash of the episode's id, so that adding data moves no episode.

What is before an `@` in an id names a recording that several episodes are views or clips of: they share one fate, since
they show the same scene. So does one that nearly repeats another (`twin` in the index; `twins` of a mixture).
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lapa import files
from lapa.data.dataset import Dataset

Rows = Int64[np.ndarray, " _e"]
"""Rows of the dataset's index, ascending."""


def split_rows(dataset: Dataset, share: float) -> tuple[Rows, Rows]:
    """Rows to train on and rows to hold out.

    With a share above 0 and at least two recordings neither is empty: where the hash would leave one so, the
    recording nearest to the boundary changes sides. An only recording is there to train on. Each member of a mixture
    is split as it would be alone, but for recordings of one that nearly repeat another's: they share its fate.
    """
    places = np.array([_place("validation", recording) for recording in deciding(dataset)])
    ends = np.cumsum([member.num_episodes for member in dataset.info.members])[:-1]
    held_out = np.concatenate([_held_out(part, share) for part in np.split(places, ends)])
    if dataset.info.twins:  # a member that changed sides for its own sake may not take them apart
        held_out &= ~np.isin(places, places[~held_out])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _held_out(places: Float64[np.ndarray, " e"], share: float) -> Bool[np.ndarray, " e"]:
    """Of the episodes of one dataset."""
    held_out: np.ndarray = places < share
    recordings = len(np.unique(places))
    if share > 0 and recordings > 1:
        if not held_out.any():
            held_out[places == places.min()] = True
        elif held_out.all():
            held_out[places == places.max()] = False
    if recordings == 1:
        held_out[:] = False
    return held_out


def deciding(dataset: Dataset) -> list[str]:
    """Of each row, the recording whose hash decides."""
    index, across = dataset.index, dataset.info.twins
    episodes: list[str] = index["episode"].to_pylist()
    twins = index["twin"].to_pylist() if "twin" in index.column_names else [None] * len(episodes)
    recordings = (recording_of(twin or episode) for episode, twin in zip(episodes, twins, strict=True))
    return [across.get(recording, recording) for recording in recordings]


def is_chosen(purpose: str, episode_id: str, share: float) -> bool:
    """Whether an episode is among the `share` that serves a purpose; a larger share only adds episodes."""
    return _place(purpose, episode_id) < share


def recording_of(episode_id: str) -> str:
    """What an episode is a view, a clip or the whole of."""
    return episode_id.partition("@")[0]


def _place(purpose: str, episode_id: str) -> float:
    """Uniform in [0, 1) over recordings."""
    return int(files.digest(purpose, recording_of(episode_id))[:13], 16) / 16**13
