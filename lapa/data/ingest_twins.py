"""Near-duplicates among the episodes of all units, and what becomes of them."""

import math
import os
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs
from jaxtyping import Bool, Int32, Int64, UInt8

from lapa import files
from lapa.config.data import IngestConfig
from lapa.data import quality, video
from lapa.data.dataset import shard_name
from lapa.data.fates import NumberedFates
from lapa.data.ingest_records import QUALITY_FOLDER, UnitRecord, made_record, read_twin_thumbs
from lapa.data.ingest_report import EXAMPLES, QualityNote
from lapa.data.quality_twins import HASH_BYTES, Twin, confirmed, suspected
from lapa.data.splits import recording_of
from lapa.errors import LapaError


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Of n clips, counted through all units."""

    repeat: Bool[np.ndarray, " n"]
    """Whether a clip repeats an earlier one."""
    are_dropped: bool
    """Those; tagged otherwise."""
    fates: Int32[np.ndarray, " n"]
    """Place of the recording that decides for a clip's own one in every split; -1 where that is itself."""
    names: pa.StringArray
    """Of the recordings that decide for others."""
    notes: Sequence[QualityNote] = ()
    """Of the first few."""

    @classmethod
    def none(cls, clips: int) -> Self:
        fates, names = np.full(clips, -1, np.int32), pa.array([], pa.string())
        return cls(repeat=np.zeros(clips, bool), are_dropped=False, fates=fates, names=names)

    @property
    def unnamed(self) -> int:
        """How many there are beside those."""
        return int(self.repeat.sum()) - len(self.notes)

    def is_dropped(self, clip: int) -> bool:
        return self.are_dropped and bool(self.repeat[clip])

    def marks(self, clip: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the index says of a clip beside its own row."""
        tags = [*row["tags"], "duplicates"] if self.repeat[clip] else row.get("tags")
        place = int(self.fates[clip])
        return {"tags": tags, "twin": self.names[place].as_py() if place >= 0 else None}


class TwinSearch:
    """Gathers what tells duplicates apart, unit by unit: 56 bytes of each clip."""

    def __init__(self, config: IngestConfig, output_url: str) -> None:
        self._quality, self._url = config.quality, output_url
        self._starts = [0]
        """The first clip of each unit."""
        self._recordings = array("Q")
        """Hash of the recording that a clip is of."""
        self._hashed = array("q")
        """Clips that have a perceptual hash."""
        self._hashes, self._seconds = bytearray(), array("d")
        """Of those."""

    def add(self, record: UnitRecord) -> None:
        """The next unit's."""
        begin = self._starts[-1]
        self._starts.append(begin + len(record.rows))
        if self._quality.duplicates == "off":
            return
        self._recordings.extend(files.digest_number(recording_of(row["episode"])) for row in record.rows)
        if len(record.hashes) == len(record.rows):  # else made before duplicates were looked for
            self._hashed.extend(range(begin, self._starts[-1]))
            self._hashes += bytes.fromhex("".join(record.hashes))
            self._seconds.extend(row["num_frames"] / row["fps"] for row in record.rows)

    def found(self) -> Twins:
        """None where duplicates are not looked for. What was gathered is let go."""
        count = self._starts[-1]
        if not ((repeated := self._repeated(count)) >= 0).any():
            return Twins.none(count)
        fates, deciding = self._fates(repeated)
        is_dropped = self._quality.duplicates == "drop"
        lookup = _Lookup(self._starts, self._url)
        clips = np.flatnonzero(repeated >= 0)
        named = [Twin(clip, int(repeated[clip])) for clip in clips[:EXAMPLES].tolist()]
        return Twins(
            repeat=repeated >= 0,
            are_dropped=is_dropped,
            fates=fates,
            names=self._names(deciding),
            notes=[_note(twin, lookup, is_dropped=is_dropped) for twin in named],
        )

    def _repeated(self, count: int) -> Int64[np.ndarray, " n"]:
        """Of each clip, the earliest one that it repeats; -1 of one that repeats none."""
        repeated = np.full(count, -1)
        if len(self._hashed) > 1:
            clips = np.frombuffer(self._hashed, np.int64)
            bits = np.frombuffer(self._hashes, np.uint8).reshape(len(clips), HASH_BYTES)
            suspects = suspected(bits, np.frombuffer(self._seconds), self._quality)
            is_compared = suspects[:, 0] >= 0
            for earlier in suspects.T:
                is_compared[earlier[earlier >= 0]] = True
            compared = np.flatnonzero(is_compared)
            with _KeptThumbs(compared, _by_unit(clips[compared], self._starts), self._url) as thumbs:
                found = confirmed(suspects, thumbs.of, self._quality)
            repeated[clips] = np.where(found < 0, -1, clips[found])
        return repeated

    def _fates(self, repeated: Int64[np.ndarray, " n"]) -> tuple[Int32[np.ndarray, " n"], Int64[np.ndarray, " d"]]:
        """`Twins.fates`, and a clip of each of the d recordings that decide for others."""
        recordings = np.frombuffer(self._recordings, np.uint64)
        _, firsts, numbers = np.unique(recordings, return_index=True, return_inverse=True)
        fates = NumberedFates(len(firsts))
        for clip in np.flatnonzero(repeated >= 0):
            fates.join(numbers[clip], numbers[repeated[clip]])
        roots = fates.roots()
        others = roots != np.arange(len(roots))
        deciding = np.unique(firsts[roots[others]])
        places = np.where(others, np.searchsorted(deciding, firsts[roots]), -1)
        return places.astype(np.int32)[numbers], deciding

    def _names(self, clips: Int64[np.ndarray, " d"]) -> pa.StringArray:
        """Of the recordings that ascending clips are of."""
        parts = [pa.array([], pa.string())]
        for number, places in _by_unit(clips, self._starts):
            rows = made_record(self._url, number).rows
            parts.append(pa.array([recording_of(rows[place]["episode"]) for place in places], pa.string()))
        return pa.concat_arrays(parts)


def _by_unit(clips: Int64[np.ndarray, " c"], starts: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Units with the places in them of ascending clips."""
    units = np.searchsorted(starts, clips, side="right") - 1
    numbers, begins = np.unique(units, return_index=True)
    for number, part in zip(numbers.tolist(), np.split(clips, begins)[1:], strict=True):
        yield number, (part - starts[number]).tolist()


class _KeptThumbs:
    """Those of suspected clips, in a temporary file: 3 KiB of each are much for memory."""

    def __init__(self, clips: Int64[np.ndarray, " c"], units: Iterable[tuple[int, list[int]]], output_url: str) -> None:
        """Clips are named by ascending numbers, in the order in which the units give them."""
        self._clips = clips
        self._shape: tuple[int, ...] = ()
        self._file = tempfile.TemporaryFile(prefix="lapa-ingest-thumbs-")  # noqa: SIM115  # closed on exit
        for number, places in units:
            thumbs = read_twin_thumbs(output_url, number)[places]
            self._shape = thumbs.shape[1:]
            self._file.write(thumbs.tobytes())
        self._file.flush()

    def of(self, clip: int) -> UInt8[np.ndarray, "4 y x c"]:
        size, place = math.prod(self._shape), int(np.searchsorted(self._clips, clip))
        return np.frombuffer(os.pread(self._file.fileno(), size, place * size), np.uint8).reshape(self._shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class _Lookup:
    """Rows and pictures of single clips, for those that the report names."""

    def __init__(self, starts: Sequence[int], output_url: str) -> None:
        self._starts, self.output_url = starts, output_url
        self._rows = lru_cache(maxsize=2)(lambda number: made_record(output_url, number).rows)

    def row(self, clip: int) -> dict[str, Any]:
        number = bisect_right(self._starts, clip) - 1
        row: dict[str, Any] = self._rows(number)[clip - self._starts[number]]
        return row

    def first_frame(self, clip: int) -> np.ndarray | None:
        row = self.row(clip)
        fs, path = url_to_fs(files.join(self.output_url, "shards", shard_name(row["shard"])))
        data = fs.cat_file(path, start=row["video_offset"], end=row["video_offset"] + row["video_bytes"])
        try:
            frame = next(iter(video.decode(bytes(data))))
        except LapaError:
            return None
        return cv2.resize(frame, (quality.SIDE, quality.SIDE), interpolation=cv2.INTER_AREA)


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
