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

    With a share above 0 and a dataset of at least two recordings neither is empty: where the hash would leave one so,
    the recording nearest to the boundary changes sides. An only recording is there to train on. Each member of a
    mixture is split as it would be alone, but for recordings of one that nearly repeat another's: they share its fate.
    """
    fates, recordings = _fates(dataset)
    places = np.array([_place("validation", recording) for recording in recordings])
    ends = np.cumsum([member.num_episodes for member in dataset.info.members])[:-1]
    _, groups = np.unique(fates if dataset.info.twins else places, return_inverse=True)
    parts = zip(np.split(places, ends), np.split(groups, ends), strict=True)
    held_out = np.concatenate([_held_out(*part, share) for part in parts])
    if dataset.info.twins and held_out.any():
        # A member that changed sides for its own sake may not take twins apart: they are trained on,
        held_out &= ~np.isin(groups, groups[~held_out])
        if not held_out.any():  # but for one of them, where they were all that was held out.
            held_out = _nearest(groups, places, ends)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _held_out(
    places: Float64[np.ndarray, " e"], groups: Int64[np.ndarray, " e"], share: float
) -> Bool[np.ndarray, " e"]:
    """Of the episodes of one dataset; those of a group have one place."""
    held_out: np.ndarray = places < share
    recordings = len(np.unique(groups))
    if share > 0 and recordings > 1:
        if not held_out.any():
            held_out[groups == groups[places.argmin()]] = True
        elif held_out.all():
            held_out[groups == groups[places.argmax()]] = False
    if recordings == 1:
        held_out[:] = False
    return held_out


def _nearest(
    groups: Int64[np.ndarray, " e"], places: Float64[np.ndarray, " e"], ends: Int64[np.ndarray, " m"]
) -> Bool[np.ndarray, " e"]:
    """Episodes of the group nearest to being held out; where possible one that leaves every member another."""
    only = [part[0] for part in np.split(groups, ends) if len(np.unique(part)) == 1]
    spare = ~np.isin(groups, only)
    nearest: np.ndarray = groups == groups[np.where(spare | ~spare.any(), places, 1.0).argmin()]
    return nearest


def _fates(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Of each row, the name of what shares its fate, and the recording whose hash decides."""
    recordings, members, twins = deciding(dataset), dataset.info.members, dataset.info.twins
    if not twins:
        return recordings, recordings
    names = (member.name for member in members for _ in range(member.num_episodes))
    own = [in_member(name, recording) for name, recording in zip(names, recordings, strict=True)]
    recording_by = dict(zip(own, recordings, strict=True))
    fates = [twins.get(name, name) for name in own]
    return fates, [recording_by.get(fate, fate) for fate in fates]


def in_member(member: str, recording: str) -> str:
    """A recording's name among all datasets of a mixture, two of which may each have an `episode-1`."""
    return f"{member}/{recording}"


def deciding(dataset: Dataset) -> list[str]:
    """Of each row, the recording whose hash decides in a split of its own dataset."""
    index = dataset.index
    episodes: list[str] = index["episode"].to_pylist()
    twins = index["twin"].to_pylist() if "twin" in index.column_names else [None] * len(episodes)
    return [recording_of(twin or episode) for episode, twin in zip(episodes, twins, strict=True)]


def is_chosen(purpose: str, episode_id: str, share: float) -> bool:
    """Whether an episode is among the `share` that serves a purpose; a larger share only adds episodes."""
    return _place(purpose, episode_id) < share


def recording_of(episode_id: str) -> str:
    """What an episode is a view, a clip or the whole of."""
    return episode_id.partition("@")[0]


def _place(purpose: str, episode_id: str) -> float:
    """Uniform in [0, 1) over recordings."""
    return int(files.digest(purpose, recording_of(episode_id))[:13], 16) / 16**13
