"""Near-duplicates between the datasets of a mixture: a clip that several of them hold is on one side of every split."""

import logging
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from lapa.config.quality import QualityConfig
from lapa.data.dataset import Dataset
from lapa.data.ingest_unit import made_record, read_twin_thumbs
from lapa.data.quality_twins import find_twins
from lapa.data.splits import deciding

logger = logging.getLogger(__name__)


def find_mixture_twins(urls: Mapping[str, str]) -> dict[str, str]:
    """For `mix`: from what decides an episode's side to what decides that of the one it repeats.

    Of datasets whose ingest looked for duplicates; others are named in the log, and their episodes compared with none.
    """
    clips = _Clips({name: Dataset.open(url) for name, url in sorted(urls.items())})
    twins = find_twins(clips.hashes, clips.seconds, clips.thumbs, QualityConfig())
    fates: dict[str, str] = {}
    for twin in twins:
        later, earlier = (_root(fates, clips.deciding[clip]) for clip in twin)
        if later != earlier:
            fates[later] = earlier
    across = sum(clips.member(twin.clip) != clips.member(twin.earlier) for twin in twins)
    logger.info("event=mixture-twins across_datasets=%d", across)
    return {name: _root(fates, name) for name in sorted(fates)}


def _root(fates: Mapping[str, str], name: str) -> str:
    while name in fates:
        name = fates[name]
    return name


class _Clips:
    """Episodes of all datasets that have a hash, counted through."""

    def __init__(self, opened: Mapping[str, Dataset]) -> None:
        self.hashes: list[bytes] = []
        self.seconds: list[float] = []
        self.deciding: list[str] = []
        self._places: list[tuple[str, int, int]] = []
        """URL of the dataset, unit, and place in it."""
        for name, dataset in opened.items():
            try:
                self._add(dataset)
            except (FileNotFoundError, ValueError) as error:
                logger.warning("event=mixture-twins-unknown dataset=%s why=%s", name, error)
        self._thumbs = lru_cache(maxsize=256)(read_twin_thumbs)

    def member(self, clip: int) -> str:
        return self._places[clip][0]

    def thumbs(self, clip: int) -> np.ndarray:
        url, unit, place = self._places[clip]
        thumbs: np.ndarray = self._thumbs(url, unit)[place]
        return thumbs

    def _add(self, dataset: Dataset) -> None:
        decides = dict(zip(dataset.index["episode"].to_pylist(), deciding(dataset), strict=True))
        for unit in range(dataset.info.num_shards):
            record = made_record(dataset.url, unit)
            if len(record.hashes) != len(record.rows):
                continue  # made before duplicates were looked for, or without
            for place, (row, hashed) in enumerate(zip(record.rows, record.hashes, strict=True)):
                if row["episode"] in decides:  # else a duplicate that was dropped
                    self.hashes.append(bytes.fromhex(hashed))
                    self.seconds.append(row["num_frames"] / row["fps"])
                    self.deciding.append(decides[row["episode"]])
                    self._places.append((dataset.url, unit, place))
