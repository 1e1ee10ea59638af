"""LeRobot datasets v2.0 and v2.1: one Parquet table and one mp4 per camera for each episode."""

import json
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from lapa import files
from lapa.config.data import LeRobotSource
from lapa.data import video
from lapa.data.parquet import read_parquet
from lapa.data.readers.base import SourceFile, SourceItem, episode_id, fingerprint, list_files, load_video
from lapa.errors import SourceError
from lapa.types.episodes import Episode, Frame

logger = logging.getLogger(__name__)

TASK_DESCRIPTION = "task_description"
"""Datasets with annotation columns keep other labels ("valid") in the same tasks table; only this one instructs."""


class LeRobotReader:
    """One item per episode of `meta/episodes.jsonl`."""

    def __init__(self, config: LeRobotSource) -> None:
        self.config = config
        self.info = _read_info(config.url)
        self.features: dict[str, Any] = self.info["features"]
        self.files = list_files(config.url)
        self.episodes = _by_index(config.url, "meta/episodes.jsonl", "episode_index")
        tasks = _by_index(config.url, "meta/tasks.jsonl", "task_index", "task")
        self.tasks = {number: line["task"] for number, line in tasks.items()}
        self.camera = self._choose_camera()
        self.action_column = self._choose_column(config.action_column, "action")
        self.proprioception_column = self._choose_column(config.proprioception_column, "observation.state")
        self.instruction_column = config.instruction_column or self._default_instruction_column()

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(
                key=f"episode_{number:06d}",
                fingerprint=fingerprint(
                    self.files.get(self._table_name(number)),
                    self.files.get(self._video_name(number, self.camera)),
                    self.info["fps"],
                    self.tasks,
                ),
            )
            for number in sorted(self.episodes)
        ]

    def read(self, item: SourceItem) -> Iterator[Episode]:
        number = int(item.key.rsplit("_", 1)[1])
        table_file = self._existing(self._table_name(number))
        video_file = self._existing(self._video_name(number, self.camera))
        table = self._read_table(table_file)
        declared = video.probe(load_video(self.config.url, video_file), name=video_file.name).num_frames
        if declared is not None and declared != table.num_rows:
            raise SourceError(
                f"{video_file.name} has {declared} frames but {table_file.name} has {table.num_rows} rows; they must "
                "agree for actions to belong to frames. Export this episode again."
            )
        yield Episode(
            id=episode_id(item.key),
            frames=partial(self._frames, video_file),
            fps=float(self.info["fps"]),
            instruction=self._instruction(number, table),
            actions=_matrix(table, self.action_column, table_file.name),
            proprioception=_matrix(table, self.proprioception_column, table_file.name),
            action_names=self._names_of(self.action_column),
            embodiment=self.config.embodiment or str(self.info.get("robot_type") or "unknown"),
            licence=self.config.licence,
            source=video_file.name,
        )

    def _frames(self, file: SourceFile) -> Iterator[Frame]:
        return video.decode(load_video(self.config.url, file), name=file.name)

    def _choose_camera(self) -> str:
        declared = [name for name, feature in self.features.items() if feature.get("dtype") == "video"]
        present = [key for key in declared if any(self._video_name(n, key) in self.files for n in self.episodes)]
        wanted = self.config.camera
        if wanted is None and present:
            return present[0]
        if wanted in present:
            return wanted
        raise SourceError(
            f"{self.config.url} has no video files for camera {wanted or '(any)'}; meta/info.json declares {declared}, "
            f"files exist for {present}. Set source.camera to one that exists."
        )

    def _choose_column(self, column: str | None, default: str) -> str | None:
        if column is None or column in self.features:
            return column
        if column != default:
            raise SourceError(
                f"{self.config.url} has no column {column!r}; meta/info.json declares {sorted(self.features)}."
            )
        logger.warning("event=column-missing source=%s column=%s", self.config.url, column)
        return None

    def _default_instruction_column(self) -> str | None:
        annotations = [name for name in self.features if name.startswith("annotation.") and TASK_DESCRIPTION in name]
        return next(iter([*annotations, *(name for name in self.features if name == "task_index")]), None)

    def _instruction(self, number: int, table: pa.Table) -> str:
        column = self.instruction_column
        if column is not None and column in table.column_names and table.num_rows:
            task = int(np.asarray(table[column][0].as_py()).reshape(-1)[0])
            if task not in self.tasks:
                raise SourceError(f"episode {number}: {column} is {task}, which meta/tasks.jsonl does not list.")
            return str(self.tasks[task])
        tasks = self.episodes[number].get("tasks") or [""]
        return str(tasks[0])

    def _names_of(self, column: str | None) -> tuple[str, ...]:
        names = self.features[column].get("names") if column else None
        if isinstance(names, dict):  # {"motors": ["shoulder", …]}
            names = [name for group in names.values() if isinstance(group, list) for name in group]
        return tuple(str(name) for name in names) if isinstance(names, list) else ()

    def _read_table(self, file: SourceFile) -> pa.Table:
        try:
            data = files.read_bytes(files.join(self.config.url, file.name))
            return read_parquet(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{file.name} cannot be read as Parquet: {error}. Replace or remove it.") from error

    def _existing(self, name: str) -> SourceFile:
        if name not in self.files:
            raise SourceError(f"{name} is declared in meta/ but does not exist. Add it, or remove the episode.")
        return self.files[name]

    def _table_name(self, number: int) -> str:
        return str(self.info["data_path"]).format(episode_chunk=self._chunk(number), episode_index=number)

    def _video_name(self, number: int, camera: str) -> str:
        return str(self.info["video_path"]).format(
            episode_chunk=self._chunk(number), episode_index=number, video_key=camera
        )

    def _chunk(self, number: int) -> int:
        return number // int(self.info.get("chunks_size") or 1000)


def _read_info(url: str) -> dict[str, Any]:
    try:
        info: dict[str, Any] = files.read_json(files.join(url, "meta/info.json"))
    except FileNotFoundError as error:
        raise SourceError(
            f"{url} has no meta/info.json, so it is no LeRobot dataset. Check the source's url."
        ) from error
    except ValueError as error:
        raise SourceError(f"{url}/meta/info.json is not JSON: {error}. Export or download it again.") from error
    if not isinstance(info, dict):
        raise SourceError(f"{url}/meta/info.json holds no object. Export or download it again.")
    version = str(info.get("codebase_version", ""))
    if not version.startswith("v2."):
        raise SourceError(
            f"{url} is LeRobot {version or 'of unknown version'}; v2.0 and v2.1 are read. Convert it first."
        )
    missing = {"features", "fps", "data_path", "video_path"} - {key for key, value in info.items() if value}
    if missing:
        raise SourceError(f"{url}/meta/info.json lacks {sorted(missing)}; episodes without videos cannot be ingested.")
    _check_values(info, f"{url}/meta/info.json")
    return info


def _check_values(info: Mapping[str, Any], name: str) -> None:
    """Raises SourceError, naming the key, for values that no episode could be read with."""
    features = info["features"]
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise SourceError(f"{name}: `features` must map each column to an object. Export the dataset again.")
    if not isinstance(info["fps"], int | float) or info["fps"] <= 0:
        raise SourceError(f"{name}: `fps` is {info['fps']!r}; it must be a number above 0. Correct it.")
    chunks = info.get("chunks_size") or 1
    if not isinstance(chunks, int) or chunks <= 0:
        raise SourceError(f"{name}: `chunks_size` is {chunks!r}; it must be a whole number above 0. Correct it.")
    parts = {"episode_chunk": 0, "episode_index": 0, "video_key": "camera"}
    for key in ("data_path", "video_path"):
        try:
            str(info[key]).format(**parts)
        except (KeyError, IndexError, ValueError) as error:
            raise SourceError(
                f"{name}: `{key}` is {info[key]!r}; it may only use {sorted(parts)} ({error!r}). Correct it."
            ) from error


def _by_index(url: str, name: str, index: str, *others: str) -> dict[int, dict[str, Any]]:
    """Lines of a `.jsonl` file by their index; each must have the other keys too."""
    try:
        text = files.read_bytes(files.join(url, name)).decode()
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (FileNotFoundError, ValueError) as error:
        raise SourceError(f"{url}/{name} cannot be read: {error}. LeRobot v2 datasets need it.") from error
    found: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            found[int(line[index])] = {**line, **{key: line[key] for key in others}}
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(
                f"{url}/{name}, line {number}: no valid {' or '.join([index, *others])} ({error!r}). Export the "
                "dataset again."
            ) from error
    return found


def _matrix(table: pa.Table, column: str | None, name: str) -> np.ndarray | None:
    """Float32 ``t d`` of a column of numbers, lists or fixed-size lists."""
    if column is None:
        return None
    if column not in table.column_names:
        raise SourceError(
            f"{name} has no column {column!r}, which meta/info.json declares; it has {table.column_names}."
        )
    values = table[column].combine_chunks()
    try:
        while pa.types.is_nested(values.type):
            values = values.flatten()
        numbers: np.ndarray = values.to_numpy(zero_copy_only=False).astype(np.float32)
        return numbers.reshape(table.num_rows, -1)
    except (ValueError, pa.ArrowException) as error:
        raise SourceError(f"{name}: column {column!r} does not have the same size in every row: {error}.") from error
