"""Near-duplicates between the datasets of a mixture: a clip that several of them hold is on one side of every split."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lapa.config.quality import QualityConfig
from lapa.data.dataset import Dataset
from lapa.data.fates import Fates
from lapa.data.ingest_records import made_record, read_twin_thumbs
from lapa.data.quality_twins import find_twins
from lapa.data.splits import deciding, in_member

logger = logging.getLogger(__name__)


def find_mixture_twins(urls: Mapping[str, str]) -> dict[str, str]:
    """For `mix`: of each `member/recording` that shares the fate of one of another member, the one that decides.

    Of datasets whose ingest looked for duplicates. The log names others, with how many of their episodes are compared
    with none.
    """
    clips = _Clips({name: Dataset.open(url) for name, url in sorted(urls.items())})
    twins = find_twins(clips.hashes, clips.seconds, clips.thumbs, QualityConfig())
    fates = Fates()
    for twin in twins:
        fates.join(clips[twin.clip].fate, clips[twin.earlier].fate)
    across = sum(clips[twin.clip].member != clips[twin.earlier].member for twin in twins)
    logger.info("event=mixture-twins across_datasets=%d", across)
    return _across(fates.roots(), clips.members())


def _across(roots: Mapping[str, str], members: Mapping[str, str]) -> dict[str, str]:
    """Without those that share their fate within their own member alone, which was its ingest's to judge."""
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for name, root in roots.items():
        seen[root] |= {members[name], members[root]}
    return {name: root for name, root in roots.items() if len(seen[root]) > 1}


class _Clip(NamedTuple):
    """An episode that has a hash."""

    member: str
    fate: str
    """`member/recording` of what decides its side in a split of its own dataset."""
    url: str
    unit: int
    place: int
    """In the unit."""
    hashed: bytes
    seconds: float


class _Clips:
    """Those of all datasets, counted through."""

    def __init__(self, opened: Mapping[str, Dataset]) -> None:
        self._clips: list[_Clip] = []
        for name, dataset in opened.items():
            why = "made without looking for duplicates"
            found: list[_Clip] = []
            try:
                found = list(_clips_of(name, dataset))
            except (FileNotFoundError, ValueError) as error:
                why = str(error)
            self._clips += found
            if len(found) < len(dataset):
                unknown = len(dataset) - len(found)
                logger.warning("event=mixture-twins-unknown dataset=%s episodes=%d why=%r", name, unknown, why)
        self._thumbs = lru_cache(maxsize=256)(read_twin_thumbs)

    def __getitem__(self, clip: int) -> _Clip:
        return self._clips[clip]

    @property
    def hashes(self) -> list[bytes]:
        return [clip.hashed for clip in self._clips]

    @property
    def seconds(self) -> list[float]:
        return [clip.seconds for clip in self._clips]

    def members(self) -> dict[str, str]:
        """By `member/recording`."""
        return {clip.fate: clip.member for clip in self._clips}

    def thumbs(self, number: int) -> np.ndarray:
        clip = self._clips[number]
        thumbs: np.ndarray = self._thumbs(clip.url, clip.unit)[clip.place]
        return thumbs


def _clips_of(name: str, dataset: Dataset) -> Iterator[_Clip]:
    decides = dict(zip(dataset.index["episode"].to_pylist(), deciding(dataset), strict=True))
    for unit in range(dataset.info.num_shards):
        record = made_record(dataset.url, unit)
        if len(record.hashes) != len(record.rows):
            continue  # made before duplicates were looked for, or without
        for place, (row, hashed) in enumerate(zip(record.rows, record.hashes, strict=True)):
            if row["episode"] in decides:  # else a duplicate that was dropped
                yield _Clip(
                    member=name,
                    fate=in_member(name, decides[row["episode"]]),
                    url=dataset.url,
                    unit=unit,
                    place=place,
                    hashed=bytes.fromhex(hashed),
                    seconds=row["num_frames"] / row["fps"],
                )
