"""Samples: what one is made of, where they begin and end in an episode, and how many become a batch."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lapa.data.dataset import Dataset
from lapa.data.frames import Clip, EpisodeReader, Span
from lapa.data.labels import Labels
from lapa.data.shuffled_labels import ShuffledLabels
from lapa.data.splits import is_chosen
from lapa.data.windows import ROUNDING, episode_windows, per_episode, sample_strides, starts
from lapa.errors import ConfigError, DataError
from lapa.types.batches import NO_CODE, Batch


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """What a stage wants in every sample, beside the current frame and its instruction."""

    window_seconds: float | None = None
    """Also the frame this much later; the last timesteps of an episode, which have none, are no samples."""
    horizon: int | None = None
    """Also the chunk of this many actions; past the episode's end the last action is repeated."""
    labels: Labels | ShuffledLabels | None = None
    """Also the codes of the timestep. Timesteps without a label are no samples, but for action chunks:
    these keep them, with NO_CODE."""
    action_labels: Labels | None = None
    """The action chunk is of actions that an inverse-dynamics model put on the frames; recorded ones are not
    read. Timesteps without a label are no samples."""
    proprioception: bool = False
    motion_share: float | None = None
    """Also the mean of the actions taken between both frames, of this share of the episodes: those that
    `lapa.data.splits.is_chosen` picks. NaN for all others."""

    def __post_init__(self) -> None:
        assert self.action_labels is None or self.horizon is not None, "labelled actions travel in chunks"

    @property
    def has_recorded_chunks(self) -> bool:
        return self.horizon is not None and self.action_labels is None

    @property
    def needs_arrays(self) -> bool:
        return self.has_recorded_chunks or self.proprioception or self.motion_share is not None


class Samples(NamedTuple):
    """Samples whose frames are decoded. m samples."""

    episodes: Int64[np.ndarray, " m"]
    """Index into the table's rows."""
    timesteps: Int64[np.ndarray, " m"]
    clips: dict[int, Clip]
    """By row of the dataset's index."""


@dataclass(frozen=True)
class SampleTable:
    """Episodes of one split, and how many samples each holds: its timesteps 0 … count-1, or those among them that
    `strides` hits. e episodes."""

    dataset: Dataset
    spec: SampleSpec
    rows: Int64[np.ndarray, " e"]
    counts: Int64[np.ndarray, " e"]
    windows: Int64[np.ndarray, " e"]
    """Window of each episode, in timesteps; 0 where the spec has none."""
    strides: Float64[np.ndarray, " e"]
    """Timesteps between the starts of an episode's samples: 1, or more where a mixture has a lower rate."""

    @classmethod
    def build(cls, dataset: Dataset, spec: SampleSpec, rows: Int64[np.ndarray, " e"]) -> Self:
        """Raises ConfigError for a window below one timestep, DataError where the dataset lacks what is asked."""
        _refuse_missing_arrays(dataset, spec)
        index = dataset.index
        counts = index["num_frames"].to_numpy().astype(np.int64)[rows]
        windows = np.zeros(len(rows), np.int64)
        if spec.window_seconds is not None:
            windows = episode_windows(dataset, spec.window_seconds)[rows]
            counts = counts - windows
        needed = spec.labels if spec.horizon is None else spec.action_labels
        if needed is not None:
            windows_of_labels = episode_windows(dataset, needed.stamp.window_seconds)[rows]
            counts = np.minimum(counts, index["num_frames"].to_numpy()[rows] - windows_of_labels)
        if spec.has_recorded_chunks:
            counts = counts * index["has_actions"].to_numpy(zero_copy_only=False)[rows]
        strides = sample_strides(dataset)[rows]
        _refuse_strided_chunks(dataset, spec, strides)
        return cls(dataset, spec, rows, starts(counts, strides), windows, strides)

    @property
    def members(self) -> Int64[np.ndarray, " e"] | None:
        """Place of each episode's dataset among the members of a mixture; None for a dataset that is none."""
        places = {member.name: place for place, member in enumerate(self.dataset.info.members)}
        of_episodes = per_episode(self.dataset, places)
        return None if of_episodes is None else of_episodes[self.rows].astype(np.int64)

    def timesteps(self, episodes: Int64[np.ndarray, " m"], numbers: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Where the episodes' samples of these numbers (0 … count-1) begin."""
        return np.floor(numbers * self.strides[episodes] + ROUNDING).astype(np.int64)

    @property
    def shards(self) -> Int64[np.ndarray, " e"]:
        shards: np.ndarray = self.dataset.index["shard"].to_numpy()[self.rows]
        return shards.astype(np.int64)

    def take(self, episodes: Int64[np.ndarray, " m"]) -> Self:
        return replace(
            self,
            rows=self.rows[episodes],
            counts=self.counts[episodes],
            windows=self.windows[episodes],
            strides=self.strides[episodes],
        )

    def nonempty(self) -> Self:
        return self.take(np.flatnonzero(self.counts))

    def reader(self) -> EpisodeReader:
        return EpisodeReader(self.dataset, with_arrays=self.spec.needs_arrays)

    def spans(self, episodes: Int64[np.ndarray, " m"], timesteps: Int64[np.ndarray, " m"]) -> list[Span]:
        """Per episode, the timesteps to decode for these samples."""
        present, places = np.unique(episodes, return_inverse=True)
        first = np.full(len(present), np.iinfo(np.int64).max)
        last = np.full(len(present), -1)
        np.minimum.at(first, places, timesteps)
        np.maximum.at(last, places, timesteps)
        stops = last + self.windows[present] + 1
        return [Span(*span) for span in zip(self.rows[present].tolist(), first.tolist(), stops.tolist(), strict=True)]

    def batch(self, samples: list[Samples]) -> Batch:
        """All of the samples, in their order."""
        episodes = np.concatenate([part.episodes for part in samples])
        rows = self.rows[episodes]
        timesteps = np.concatenate([part.timesteps for part in samples])
        windows = self.windows[episodes].tolist()
        row_list, time_list = rows.tolist(), timesteps.tolist()
        clips = [part.clips[row] for part in samples for row in self.rows[part.episodes].tolist()]
        side = self.dataset.info.image_size
        current = np.empty((len(clips), side, side, 3), np.uint8)
        future = None if self.spec.window_seconds is None else np.empty_like(current)
        for place, (clip, timestep) in enumerate(zip(clips, time_list, strict=True)):
            begin = timestep - clip.start
            current[place] = clip.frames[begin]
            if future is not None:
                future[place] = clip.frames[begin + windows[place]]
        actions, is_real = self._chunks(clips, row_list, timesteps)
        return Batch(
            current=_channels_first(current),
            future=None if future is None else _channels_first(future),
            instructions=tuple(self._instructions[row] for row in row_list),
            episode=torch.from_numpy(rows),
            timestep=torch.from_numpy(timesteps),
            codes=self._codes(row_list, time_list),
            actions=actions,
            action_is_real=is_real,
            proprioception=self._proprioception(clips, time_list),
            motion=self._motion(clips, row_list, time_list, windows),
        )

    @cached_property
    def _instructions(self) -> list[str]:
        return list(self.dataset.index["instruction"].to_pylist())

    def _codes(self, rows: list[int], timesteps: list[int]) -> Tensor | None:
        if self.spec.labels is None:
            return None
        of_row = {row: self.spec.labels.codes_of(row) for row in set(rows)}
        none = np.full(self.spec.labels.stamp.codes_per_pair, NO_CODE, np.int64)
        codes = [of_row[r][t] if t < len(of_row[r]) else none for r, t in zip(rows, timesteps, strict=True)]
        if self.spec.horizon is None and any(code is none for code in codes):
            raise self._lacking(self.spec.labels)
        return torch.from_numpy(np.stack(codes))

    def _chunks(
        self, clips: list[Clip], rows: list[int], timesteps: Int64[np.ndarray, " m"]
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.spec.horizon is None:
            return None, None
        actions = self._actions(clips, rows)
        wanted = timesteps[:, None] + np.arange(self.spec.horizon)  # m k
        lengths = np.array([len(of_episode) for of_episode in actions])[:, None]
        real = wanted < lengths
        if not real[:, 0].all() and self.spec.action_labels is not None:
            raise self._lacking(self.spec.action_labels)
        places = np.minimum(wanted, lengths - 1)
        chunks = np.stack([of_episode[place] for of_episode, place in zip(actions, places, strict=True)])
        return torch.from_numpy(chunks), torch.from_numpy(real)

    def _actions(self, clips: list[Clip], rows: list[int]) -> list[np.ndarray]:
        """All actions of each sample's episode."""
        labels = self.spec.action_labels
        if labels is None:
            return [clip.arrays["actions"] for clip in clips]
        of_row = {row: labels.actions_of(row) for row in set(rows)}
        return [of_row[row] for row in rows]

    def _lacking(self, labels: Labels | ShuffledLabels) -> DataError:
        return DataError(
            f"labels at {labels.url} lack timesteps that {self.dataset.url} has. "
            "Run the label stage again into an empty folder."
        )

    def _proprioception(self, clips: list[Clip], timesteps: list[int]) -> Tensor | None:
        if not self.spec.proprioception:
            return None
        states = [clip.arrays["proprioception"][t] for clip, t in zip(clips, timesteps, strict=True)]
        return torch.from_numpy(np.stack(states))

    @cached_property
    def _has_motion(self) -> list[bool]:
        share = self.spec.motion_share
        assert share is not None
        return [is_chosen("motion", episode, share) for episode in self.dataset.index["episode"].to_pylist()]

    def _motion(self, clips: list[Clip], rows: list[int], timesteps: list[int], windows: list[int]) -> Tensor | None:
        if self.spec.motion_share is None:
            return None
        motion = np.full((len(clips), self.dataset.info.action_dims), np.nan, np.float32)
        for place, (clip, row) in enumerate(zip(clips, rows, strict=True)):
            if self._has_motion[row] and "actions" in clip.arrays:
                begin = timesteps[place]
                motion[place] = clip.arrays["actions"][begin : begin + windows[place]].mean(0, dtype=np.float64)
        return torch.from_numpy(motion)


def _refuse_strided_chunks(dataset: Dataset, spec: SampleSpec, strides: np.ndarray) -> None:
    if spec.horizon is not None and (strides > 1).any():
        thinned = ", ".join(f"'{member.name}' to {member.fps:g}" for member in dataset.info.members if member.fps)
        raise ConfigError(
            f"the mixture {dataset.url} thins {thinned} frames a second, and an action belongs to the rate it was "
            "recorded at. Ingest those datasets at that rate (their ingest's fps, which adds up deltas), and leave the "
            "mixture's fps unset."
        )


def _refuse_missing_arrays(dataset: Dataset, spec: SampleSpec) -> None:
    if spec.has_recorded_chunks and dataset.info.action_dims == 0:
        raise DataError(f"{dataset.url} has no actions, which action chunks need. Use a dataset of robot episodes.")
    if spec.motion_share is not None and dataset.info.action_dims == 0:
        raise DataError(
            f"{dataset.url} has no actions, which laq.supervision learns from. Use videos that come with recorded "
            "actions (a source with an action column), or set laq.supervision to null."
        )
    if spec.proprioception and dataset.info.proprioception_dims == 0:
        raise DataError(f"{dataset.url} has no proprioception. Use a dataset that has it, or train without it.")


def _channels_first(frames: np.ndarray) -> Tensor:
    """b h w c to b c h w without moving a byte: the memory stays channels-last."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2)
