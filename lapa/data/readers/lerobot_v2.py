"""LeRobot v2.0 and v2.1: one Parquet table and one mp4 per camera for each episode, lists as `.jsonl`.

The two differ in their statistics only (`lerobot_statistics`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from lapa import files
from lapa.data.parquet import read_parquet
from lapa.data.readers.base import SourceFile, SourceItem, fingerprint, list_files
from lapa.data.readers.lerobot_meta import EpisodeTable, VideoSpan
from lapa.errors import SourceError


class LeRobotV2Layout:
    """One item per episode of `meta/episodes.jsonl`."""

    def __init__(self, url: str, info: Mapping[str, Any]) -> None:
        self.url = url
        self.info = info
        self.files: Mapping[str, SourceFile] = list_files(url)
        self.episodes = _by_index(url, "meta/episodes.jsonl", "episode_index")
        tasks = _by_index(url, "meta/tasks.jsonl", "task_index", "task")
        self.tasks: Mapping[int, str] = {number: line["task"] for number, line in tasks.items()}

    def cameras(self, declared: Sequence[str]) -> list[str]:
        return [key for key in declared if any(self._video_name(n, key) in self.files for n in self.episodes)]

    def items(self, cameras: Sequence[str], fps: float) -> list[SourceItem]:
        return [
            SourceItem(
                key=f"episode_{number:06d}",
                fingerprint=fingerprint(
                    self.files.get(self._table_name(number)),
                    *(self.files.get(self._video_name(number, camera)) for camera in cameras),
                    fps,
                    self.tasks,
                ),
                episodes=len(cameras),
            )
            for number in sorted(self.episodes)
        ]

    def tables(self, item: SourceItem, cameras: Sequence[str]) -> Iterator[EpisodeTable]:
        number = int(item.key.rsplit("_", 1)[1])
        name = self._table_name(number)
        tasks = self.episodes[number].get("tasks")
        yield EpisodeTable(
            number=number,
            table=self._read_table(name),
            name=name,
            tasks=tuple(str(task) for task in tasks) if isinstance(tasks, list) else (),
            spans={camera: VideoSpan(name=self._video_name(number, camera)) for camera in cameras},
        )

    def _read_table(self, name: str) -> pa.Table:
        if name not in self.files:
            raise SourceError(f"{name} is declared in meta/ but does not exist. Add it, or remove the episode.")
        try:
            return read_parquet(pa.BufferReader(files.read_bytes(files.join(self.url, name))))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SourceError(f"{name} cannot be read as Parquet: {error}. Replace or remove it.") from error

    def _table_name(self, number: int) -> str:
        return str(self.info["data_path"]).format(episode_chunk=self._chunk(number), episode_index=number)

    def _video_name(self, number: int, camera: str) -> str:
        return str(self.info.get("video_path") or "").format(
            episode_chunk=self._chunk(number), episode_index=number, video_key=camera
        )

    def _chunk(self, number: int) -> int:
        return number // int(self.info.get("chunks_size") or 1000)


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
                "dataset again, or correct the line."
            ) from error
    return found
