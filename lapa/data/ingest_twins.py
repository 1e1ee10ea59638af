"""Near-duplicates among the episodes of all units, and what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from fsspec.core import url_to_fs

from lapa import files
from lapa.config.data import IngestConfig
from lapa.data import quality, video
from lapa.data.dataset import shard_name
from lapa.data.fates import Fates
from lapa.data.ingest_plan import Plan
from lapa.data.ingest_report import EXAMPLES, QualityNote
from lapa.data.ingest_unit import QUALITY_FOLDER, made_record, read_twin_thumbs
from lapa.data.quality_twins import Twin, find_twins
from lapa.data.splits import recording_of
from lapa.errors import LapaError


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Clips are counted through all units."""

    tagged: frozenset[int] = frozenset()
    dropped: frozenset[int] = frozenset()
    fates: Mapping[str, str] = field(default_factory=dict)
    """By recording, the earlier one that it shares its fate with in every split."""
    notes: Sequence[QualityNote] = ()
    """Of the first few."""

    @property
    def unnamed(self) -> int:
        """How many there are beside those."""
        return len(self.tagged) + len(self.dropped) - len(self.notes)

    def marks(self, clip: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the index says of a clip beside its own row."""
        tags = [*row["tags"], "duplicates"] if clip in self.tagged else row.get("tags")
        return {"tags": tags, "twin": self.fates.get(recording_of(row["episode"]))}


def find_dataset_twins(plan: Plan, config: IngestConfig, output_url: str) -> Twins:
    """Nothing where duplicates are not looked for."""
    if config.quality.duplicates == "off":
        return Twins()
    hashes: list[bytes] = []
    seconds: list[float] = []
    places: list[tuple[int, int]] = []
    for number in range(len(plan)):
        record = made_record(output_url, number)
        if len(record.hashes) != len(record.rows):
            continue  # made before duplicates were looked for
        hashes += map(bytes.fromhex, record.hashes)
        seconds += [row["num_frames"] / row["fps"] for row in record.rows]
        places += [(number, place) for place in range(len(record.rows))]
    if len(places) < 2:
        return Twins()
    lookup = _Lookup(places, output_url)
    twins = find_twins(hashes, seconds, lookup.thumbs, config.quality)
    return _judged(twins, lookup, config)


class _Lookup:
    """Rows and thumbnails of single clips, a few units of them in memory."""

    def __init__(self, places: Sequence[tuple[int, int]], output_url: str) -> None:
        self._places, self.output_url = places, output_url
        self._rows = lru_cache(maxsize=32)(lambda number: made_record(output_url, number).rows)
        self._thumbs = lru_cache(maxsize=256)(lambda number: read_twin_thumbs(output_url, number))

    def row(self, clip: int) -> dict[str, Any]:
        number, place = self._places[clip]
        row: dict[str, Any] = self._rows(number)[place]
        return row

    def thumbs(self, clip: int) -> np.ndarray:
        number, place = self._places[clip]
        thumbs: np.ndarray = self._thumbs(number)[place]
        return thumbs

    def first_frame(self, clip: int) -> np.ndarray | None:
        row = self.row(clip)
        fs, path = url_to_fs(files.join(self.output_url, "shards", shard_name(row["shard"])))
        data = fs.cat_file(path, start=row["video_offset"], end=row["video_offset"] + row["video_bytes"])
        try:
            frame = next(iter(video.decode(bytes(data))))
        except LapaError:
            return None
        return cv2.resize(frame, (quality.SIDE, quality.SIDE), interpolation=cv2.INTER_AREA)


def _judged(twins: Sequence[Twin], lookup: _Lookup, config: IngestConfig) -> Twins:
    is_dropped = config.quality.duplicates == "drop"
    fates = Fates()
    notes: list[QualityNote] = []
    for twin in twins:
        row, earlier = lookup.row(twin.clip), lookup.row(twin.earlier)
        fates.join(recording_of(row["episode"]), recording_of(earlier["episode"]))
        if len(notes) < EXAMPLES:
            notes.append(_note(twin, lookup, is_dropped=is_dropped))
    clips = frozenset(twin.clip for twin in twins)
    return Twins(
        tagged=frozenset() if is_dropped else clips,
        dropped=clips if is_dropped else frozenset(),
        fates=fates.roots(),
        notes=notes,
    )


def _note(twin: Twin, lookup: _Lookup, *, is_dropped: bool) -> QualityNote:
    row, earlier = lookup.row(twin.clip), lookup.row(twin.earlier)
    return QualityNote(
        source=row["source"],
        episode=row["episode"],
        kind="duplicates",
        done="dropped" if is_dropped else "tagged",
        reason=f"its pictures are those of {earlier['source']}",
        picture=_picture(twin, lookup, row["episode"]),
    )


def _picture(twin: Twin, lookup: _Lookup, episode: str) -> str:
    """The first frames of both, side by side."""
    frames = [frame for clip in twin if (frame := lookup.first_frame(clip)) is not None]
    if len(frames) < 2:
        return ""
    name = f"{QUALITY_FOLDER}/duplicates-{episode}.jpg"
    files.write_bytes(files.join(lookup.output_url, name), quality.strip(frames))
    return name
