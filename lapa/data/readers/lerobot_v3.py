"""LeRobot v3.0: many episodes share a Parquet table and an mp4; `meta/episodes/` says where each one lies."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc

from lapa import files
from lapa.data.parquet import read_parquet, read_rows
from lapa.data.readers.base import SourceFile, SourceItem, fingerprint, list_files
from lapa.data.readers.lerobot_meta import EpisodeTable, VideoSpan
from lapa.errors import SourceError

RUN_EPISODES = 64
"""Neighbours in the same files are read together, up to this many, so that several processes can share a file."""
RUN_PICTURED_EPISODES = 4
"""The same where the table itself holds the pictures, so that a run fits in memory."""

Row = dict[str, Any]
"""One row of `meta/episodes/`, without its statistics."""


class LeRobotV3Layout:
    """One item per run of neighbouring episodes that share their table and their videos."""

    def __init__(self, url: str, info: Mapping[str, Any]) -> None:
        self.url = url
        self.info = info
        self.files: Mapping[str, SourceFile] = list_files(url)
        self.tasks: Mapping[int, str] = _read_tasks(url)
        self.episodes = _read_episodes(url, self.files)
        is_pictured = any(feature.get("dtype") == "image" for feature in info["features"].values())
        self.run_episodes = RUN_PICTURED_EPISODES if is_pictured else RUN_EPISODES

    def cameras(self, declared: Sequence[str]) -> list[str]:
        return [key for key in declared if any(self._video_name(row, key) in self.files for row in self._rows())]

    def items(self, cameras: Sequence[str], fps: float) -> list[SourceItem]:
        items = []
        for run in self._runs(cameras):
            names = self._names(run[0], cameras)
            # What lies elsewhere in a shared file changes the file, but not what `meta/` says of these episodes.
            says = [[row["episode_index"], row["length"], *self._places(row, cameras)] for row in run]
            items.append(
                SourceItem(
                    key=f"episodes_{run[0]['episode_index']:06d}-{run[-1]['episode_index']:06d}",
                    fingerprint=fingerprint(*(self.files.get(name) for name in names), says, fps, self.tasks),
                    episodes=len(run) * len(cameras),
                )
            )
        return items

    def tables(self, item: SourceItem, cameras: Sequence[str]) -> Iterator[EpisodeTable | SourceError]:
        first, last = map(int, item.key.rsplit("_", 1)[1].split("-"))
        numbers = [number for number in self.episodes if first <= number <= last]
        name = self._table_name(self.episodes[first])
        if name not in self.files:
            raise SourceError(f"{name} is declared in meta/ but does not exist. Add it, or remove its episodes.")
        rows = self._read_rows(name, first, last)
        for number in numbers:
            row = self.episodes[number]
            table = rows.filter(pc.equal(rows["episode_index"], number))
            if table.num_rows != row["length"]:
                yield SourceError(
                    f"episode {number}: meta/episodes counts {row['length']} frames, but {name} has {table.num_rows} "
                    "rows of it. Export the dataset again, or remove the episode."
                )
                continue
            yield EpisodeTable(
                number=number,
                table=table,
                name=name,
                tasks=tuple(str(task) for task in row.get("tasks") or ()),
                spans={camera: self._span(row, camera) for camera in cameras},
            )

    def _rows(self) -> Iterator[Row]:
        return iter(self.episodes.values())

    def _runs(self, cameras: Sequence[str]) -> Iterator[list[Row]]:
        """Neighbours by number that lie in the same files, at most `run_episodes` of them."""
        for _, group in itertools.groupby(self._rows(), key=lambda row: self._names(row, cameras)):
            neighbours = list(group)
            for start in range(0, len(neighbours), self.run_episodes):
                yield neighbours[start : start + self.run_episodes]

    def _names(self, row: Row, cameras: Sequence[str]) -> list[str]:
        return [self._table_name(row), *(self._video_name(row, camera) for camera in cameras)]

    def _places(self, row: Row, cameras: Sequence[str]) -> list[Any]:
        return [row.get(f"videos/{camera}/from_timestamp") for camera in cameras]

    def _span(self, row: Row, camera: str) -> VideoSpan:
        start = row.get(f"videos/{camera}/from_timestamp")
        return VideoSpan(name=self._video_name(row, camera), start_seconds=float(start or 0.0))

    def _table_name(self, row: Row) -> str:
        return str(self.info["data_path"]).format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )

    def _video_name(self, row: Row, camera: str) -> str:
        """Empty where the episode has no video of this camera."""
        chunk, number = row.get(f"videos/{camera}/chunk_index"), row.get(f"videos/{camera}/file_index")
        if chunk is None or number is None:
            return ""
        path = str(self.info.get("video_path") or "")
        return path.format(video_key=camera, chunk_index=int(chunk), file_index=int(number))

    def _read_rows(self, name: str, first: int, last: int) -> pa.Table:
        try:
            with fsspec.open(files.join(self.url, name), "rb") as file:
                return read_rows(file, "episode_index", first, last)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise SourceError(f"{name} cannot be read as Parquet: {error}. Replace or remove it.") from error


def _read_episodes(url: str, listing: Mapping[str, SourceFile]) -> dict[int, Row]:
    """Rows of `meta/episodes/` by number, ascending, without the statistics of each episode."""
    names = [name for name in listing if re.fullmatch(r"meta/episodes/.*\.parquet", name)]
    if not names:
        raise SourceError(f"{url} has no meta/episodes/*.parquet, which LeRobot v3 datasets need. Export it again.")
    rows: dict[int, Row] = {}
    for name in names:
        table = _read_table(url, name)
        kept = [column for column in table.column_names if not column.startswith("stats/")]
        needed = {"episode_index", "length", "data/chunk_index", "data/file_index"}
        if missing := needed - set(kept):
            raise SourceError(f"{url}/{name} lacks the columns {sorted(missing)}. Export the dataset again.")
        for row in table.select(kept).to_pylist():
            if any(not isinstance(row[key], int) for key in needed):
                raise SourceError(
                    f"{url}/{name}: {sorted(needed)} must be whole numbers in every row. Export it again."
                )
            rows[row["episode_index"]] = row
    return dict(sorted(rows.items()))


def _read_tasks(url: str) -> dict[int, str]:
    """`meta/tasks.parquet`: the number is a column, the text one too or the index that pandas keeps unnamed."""
    table = _read_table(url, "meta/tasks.parquet")
    texts = [
        field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    if "task_index" not in table.column_names or not texts:
        raise SourceError(
            f"{url}/meta/tasks.parquet has the columns {table.column_names}; it needs `task_index` and one of text. "
            "Export the dataset again."
        )
    column = "task" if "task" in texts else texts[0]
    pairs = zip(table["task_index"].to_pylist(), table[column].to_pylist(), strict=True)
    return {int(number): str(text) for number, text in pairs if number is not None and text is not None}


def _read_table(url: str, name: str) -> pa.Table:
    try:
        return read_parquet(pa.BufferReader(files.read_bytes(files.join(url, name))))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{url}/{name} cannot be read: {error}. LeRobot v3 datasets need it.") from error
