"""LeRobot v3.0 out of our shards: videos are copied packet by packet, many episodes to a file, none encoded again."""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapa.data import video
from lapa.data.convert_lerobot_file import CAMERA, FILE, VIDEO_BYTES, SharedFile
from lapa.data.convert_lerobot_numbers import PictureHistogram, describe_pictures, describe_rows, merged
from lapa.data.convert_output import OutputFolder, StoredEpisode
from lapa.data.dataset import Dataset
from lapa.errors import ConfigError, DataError

COLUMNS = {"actions": "action", "proprioception": "observation.state"}
CHUNK_FILES = 1000
PICTURE_STRIDE = 8
"""Every eighth frame is decoded for the statistics of pictures."""
COUNTERS = ("frame_index", "episode_index", "index", "task_index")


class LeRobotWriter:
    """Episodes become rows of tables and spans of videos; `meta/info.json` is written last."""

    def __init__(self, dataset: Dataset, folder: OutputFolder) -> None:
        self.not_kept = _check(dataset)
        self._info = dataset.info
        self._folder = folder
        (self._fps,) = dataset.info.fps
        self._arrays = {
            name: dims
            for name, dims in (
                ("actions", dataset.info.action_dims if dataset.info.has_actions else 0),
                ("proprioception", dataset.info.proprioception_dims),
            )
            if dims
        }
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._frames = 0
        self._files = 0
        self._file: SharedFile | None = None

    def add(self, episode: StoredEpisode) -> None:
        table = self._table(episode)
        if self._file is not None and not self._file.takes(episode.video):
            self._close_file()
        if self._file is None:
            self._file = SharedFile(self._folder, self._place(), self._fps, table.schema, episode.video)
        row = self._row(episode, table)
        self._file.add(table, episode)
        self._frames += episode.num_frames
        self._episodes.append(row)
        if self._file.is_full():
            self._close_file()

    def finish(self) -> None:
        """Write what is open, and `meta/`."""
        self._close_file()
        names = {
            "meta/tasks.parquet": self._write_tasks,
            "meta/episodes/chunk-000/file-000.parquet": self._write_episodes,
            "meta/stats.json": self._write_statistics,
            "README.md": self._write_readme,
            "meta/info.json": self._write_info,
        }
        for name, write in names.items():
            write(self._folder.path(name))
            self._folder.finish(name)

    def _place(self) -> dict[str, int]:
        return {"chunk_index": self._files // CHUNK_FILES, "file_index": self._files % CHUNK_FILES}

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._files += 1

    def _table(self, episode: StoredEpisode) -> pa.Table:
        length = episode.num_frames
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        columns: dict[str, pa.Array] = {}
        for name, dims in self._arrays.items():
            if name not in episode.arrays:
                raise DataError(
                    f"episode {episode.id} has no {name}, and others have; LeRobot needs it for all. Ingest them apart."
                )
            values = pa.array(np.ascontiguousarray(episode.arrays[name], np.float32).ravel())
            columns[COLUMNS[name]] = pa.FixedSizeListArray.from_arrays(values, dims)
        columns["timestamp"] = pa.array((np.arange(length) / self._fps).astype(np.float32))
        steps, ones = np.arange(length), np.ones(length, np.int64)
        counters = (steps, ones * len(self._episodes), self._frames + steps, ones * task)
        for name, numbers in zip(COUNTERS, counters, strict=True):
            columns[name] = pa.array(numbers)
        return pa.table(columns)

    def _row(self, episode: StoredEpisode, table: pa.Table) -> dict[str, Any]:
        """The episode's row in `meta/episodes/`."""
        assert self._file is not None
        start = self._file.seconds
        place = self._place()
        row: dict[str, Any] = {
            "episode_index": len(self._episodes),
            "tasks": [episode.instruction],
            "length": episode.num_frames,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + episode.num_frames,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            **{f"data/{key}": value for key, value in place.items()},
            **{f"videos/{CAMERA}/{key}": value for key, value in place.items()},
            f"videos/{CAMERA}/from_timestamp": start,
            f"videos/{CAMERA}/to_timestamp": start + episode.num_frames / self._fps,
        }
        described = {column: describe_rows(table[column]) for column in table.column_names}
        described[CAMERA] = describe_pictures(_histogram(episode))
        for column, numbers in described.items():
            row |= {f"stats/{column}/{name}": value for name, value in numbers.items()}
        return row

    def _write_tasks(self, path: Path) -> None:
        table = pa.table({"task_index": list(self._tasks.values()), "__index_level_0__": list(self._tasks)})
        # Pandas, which lerobot reads this with, must find the text as the table's index.
        column = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        described = {
            "index_columns": ["__index_level_0__"],
            "column_indexes": [{"name": None, "field_name": None, **column}],
            "columns": [
                {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
                 "metadata": None},
                {"name": None, "field_name": "__index_level_0__", **column},
            ],
            "pandas_version": "2.0.0",
        }  # fmt: skip
        pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(described)}), path)

    def _write_episodes(self, path: Path) -> None:
        pq.write_table(pa.Table.from_pylist(self._episodes), path)

    def _write_statistics(self, path: Path) -> None:
        columns = [*(COLUMNS[name] for name in self._arrays), "timestamp", *COUNTERS, CAMERA]
        whole = {column: merged([_statistics(row, column) for row in self._episodes]) for column in columns}
        path.write_text(json.dumps(whole, indent=2))

    def _write_info(self, path: Path) -> None:
        side = self._info.image_size
        picture = {
            "dtype": "video",
            "shape": [side, side, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": side, "video.width": side, "video.codec": "h264", "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False, "video.fps": _whole(self._fps), "video.channels": 3, "has_audio": False,
            },
        }  # fmt: skip
        names = {"actions": list(self._info.action_names) or None, "proprioception": None}
        features: dict[str, Any] = {CAMERA: picture}
        for name, dims in self._arrays.items():
            features[COLUMNS[name]] = {"dtype": "float32", "shape": [dims], "names": names[name]}
        features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in COUNTERS}
        info = {
            "codebase_version": "v3.0",
            "robot_type": _commonest(self._info.embodiments),
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": VIDEO_BYTES // 2**20,
            "fps": _whole(self._fps),
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": f"data/{FILE}.parquet",
            "video_path": f"videos/{{video_key}}/{FILE}.mp4",
            "features": features,
        }
        path.write_text(json.dumps(info, indent=2, ensure_ascii=False))

    def _write_readme(self, path: Path) -> None:
        counted = "".join(f"- {name}: {number} episodes\n" for name, number in sorted(self._info.licences.items()))
        path.write_text(
            f"A LeRobot v3.0 dataset, converted by lapa from its dataset of revision {self._info.revision}.\n\n"
            f"Licences, as its sources declared them:\n\n{counted}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and error is not None:
            self._file.abandon()


def _check(dataset: Dataset) -> tuple[str, ...]:
    """What will not be kept. Raises ConfigError for a dataset that LeRobot has no form for."""
    info = dataset.info
    if len(info.fps) != 1:
        raise ConfigError(
            f"{dataset.url} holds episodes at {', '.join(f'{fps:g}' for fps in info.fps)} fps, and LeRobot has one "
            "rate per dataset. Ingest with `fps` set to the lowest of them, or convert to webdataset."
        )
    if info.action_dims and not info.has_actions:
        raise ConfigError(
            f"some episodes of {dataset.url} have actions and some have none; LeRobot needs them in all. Ingest "
            "the two kinds apart, or convert to webdataset."
        )
    lost = ["episode ids (they become numbers)", "the source of each episode", "the licence of each episode"]
    if len(info.embodiments) > 1:
        lost.append("the embodiment of each episode")
    return tuple(lost)


def _histogram(episode: StoredEpisode) -> PictureHistogram:
    counted = PictureHistogram()
    for number, frame in enumerate(video.decode(episode.video, name=episode.id)):
        if number % PICTURE_STRIDE == 0:
            counted.add(frame)
    return counted


def _statistics(row: dict[str, Any], column: str) -> dict[str, Any]:
    prefix = f"stats/{column}/"
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _commonest(counts: dict[str, int]) -> str:
    return Counter(counts).most_common(1)[0][0]


def _whole(fps: float) -> int | float:
    """LeRobot's own tools write whole rates as integers."""
    return int(fps) if fps == int(fps) else fps
