"""What training will see of each dataset of a mixture: told before it begins. Needs no torch.

e episodes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lapa.data.dataset import ActionStatistics, Dataset, Member
from lapa.data.splits import split_rows
from lapa.data.windows import episode_windows, sample_strides, starts

MANY_EPOCHS = 50
"""A dataset that is seen more often than this is likely to be learned by heart."""


@dataclass(frozen=True, kw_only=True)
class StageDraws:
    """What a stage draws."""

    samples: int
    """In all: steps times batch size."""
    window_seconds: float | None
    """Of a mixture's members without one of their own; None where samples are single frames."""
    validation_share: float


@dataclass(frozen=True, kw_only=True)
class EffectiveSamples:
    """One dataset's part in the training."""

    dataset: str
    url: str
    episodes: int
    """To train on; held-out ones are not counted."""
    hours: float
    """Of those episodes."""
    fps: tuple[float, ...]
    window_seconds: float | None
    samples: int
    """Different ones: an epoch."""
    share: float
    """Of all samples that are drawn."""
    drawn: dict[str, float]
    """By stage."""
    epochs: dict[str, float]
    licences: dict[str, int]
    action_names: tuple[str, ...]
    actions: ActionStatistics | None


def effective_samples(
    dataset: Dataset, members: Mapping[str, Dataset], stages: Mapping[str, StageDraws]
) -> list[EffectiveSamples]:
    """One row per member, or an only one for a dataset that is no mixture; `stages` has one at least.

    Samples, episodes and hours are those of the first stage.
    """
    counted = {name: dict(_counted(dataset, draws)) for name, draws in stages.items()}
    first = next(iter(stages))
    rows = []
    for member in _members(dataset):
        one = members.get(member.name, dataset)
        drawn = {name: draws.samples * member.share for name, draws in stages.items()}
        own = counted[first][member.name]
        rows.append(
            EffectiveSamples(
                dataset=member.name,
                url=member.url,
                episodes=own.episodes,
                hours=own.hours,
                fps=one.info.fps,
                window_seconds=member.window_seconds or stages[first].window_seconds,
                samples=own.samples,
                share=member.share,
                drawn=drawn,
                epochs={name: drawn[name] / max(counted[name][member.name].samples, 1) for name in stages},
                licences=one.info.licences,
                action_names=one.info.action_names,
                actions=one.info.actions,
            )
        )
    return rows


def remarks(rows: list[EffectiveSamples]) -> list[str]:
    """What one would rather know before hours of training."""
    said = []
    for row in rows:
        if not row.samples:
            said.append(
                f"{row.dataset} has no sample: its episodes are shorter than its window. Take it out, or shorten it"
            )
        for stage, epochs in row.epochs.items():
            if row.samples and epochs > MANY_EPOCHS:
                said.append(f"{stage} sees {row.dataset} {epochs:.0f} times: lower its share, or train for fewer steps")
    return said


@dataclass(frozen=True, kw_only=True)
class _Counted:
    samples: int
    episodes: int
    hours: float


def _counted(dataset: Dataset, draws: StageDraws) -> Iterator[tuple[str, _Counted]]:
    """Of each member, what is there to train on."""
    rows = split_rows(dataset, draws.validation_share)[0]
    frames, fps = dataset.index["num_frames"].to_numpy().astype(np.int64), dataset.index["fps"].to_numpy()
    windows = np.int64(0) if draws.window_seconds is None else episode_windows(dataset, draws.window_seconds)
    samples = starts(frames - windows, sample_strides(dataset))
    first = 0
    for member in _members(dataset):
        mine = rows[(rows >= first) & (rows < first + member.num_episodes)]
        hours = float((frames[mine] / fps[mine]).sum() / 3600)
        yield member.name, _Counted(samples=int(samples[mine].sum()), episodes=len(mine), hours=hours)
        first += member.num_episodes


def _members(dataset: Dataset) -> tuple[Member, ...]:
    whole = Member(name="all", url=dataset.url, revision=dataset.revision, share=1.0, num_episodes=len(dataset))
    return dataset.info.members or (whole,)
