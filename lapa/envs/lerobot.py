"""Writes LeRobot v2.1 datasets: Parquet tables and `meta/`; whoever calls writes the videos."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapa.files import write_bytes, write_json

_EPISODES_PER_CHUNK = 1000
_STATISTICS = ("min", "max", "mean", "std")
_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"


@dataclass(frozen=True, kw_only=True)
class Robot:
    """Whose episodes these are, and what their numbers mean."""

    name: str
    fps: int
    camera: str
    """`top` gives the video key `observation.images.top`."""
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]

    @property
    def video_key(self) -> str:
        return f"observation.images.{self.camera}"

    def video_path(self, episode: int) -> str:
        """Where an episode's video lies inside the dataset."""
        chunk = episode // _EPISODES_PER_CHUNK
        return _VIDEO_PATH.format(episode_chunk=chunk, video_key=self.video_key, episode_index=episode)


def image_statistics(frames: np.ndarray) -> dict[str, Any]:
    """Per channel, over [t, h, w, 3] frames, in [0, 1]; nested as LeRobot nests image statistics."""
    channels = cv2.split(frames.reshape(-1, frames.shape[2], 3))
    values = {name: np.array([getattr(channel, name)() for channel in channels]) for name in _STATISTICS}
    nested = {name: [[[float(x)]] for x in value / 255] for name, value in values.items()}
    return {**nested, "count": [len(frames)]}


class LeRobotWriter:
    """Takes episodes in order; `finish` writes `meta/`."""

    def __init__(self, folder: Path, robot: Robot, *, image_size: int) -> None:
        self._folder = folder
        self._robot = robot
        self._image_size = image_size
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._statistics: list[dict[str, Any]] = []
        self._num_frames = 0

    def add(self, instruction: str, actions: np.ndarray, states: np.ndarray, images: dict[str, Any]) -> None:
        """One episode: `actions` [t, a], `states` [t, p], and the `image_statistics` of its frames."""
        episode, length = len(self._episodes), len(actions)
        task = self._tasks.setdefault(instruction, len(self._tasks))
        columns: dict[str, np.ndarray] = {
            "action": actions.astype(np.float32),
            "observation.state": states.astype(np.float32),
            "timestamp": (np.arange(length) / self._robot.fps).astype(np.float32),
            "frame_index": np.arange(length, dtype=np.int64),
            "episode_index": np.full(length, episode, dtype=np.int64),
            "index": np.arange(self._num_frames, self._num_frames + length, dtype=np.int64),
            "task_index": np.full(length, task, dtype=np.int64),
        }
        self._write_table(episode, columns)
        self._episodes.append({"episode_index": episode, "tasks": [instruction], "length": length})
        statistics = {name: _statistics(values) for name, values in columns.items()}
        self._statistics.append({"episode_index": episode, "stats": {**statistics, self._robot.video_key: images}})
        self._num_frames += length

    def finish(self) -> None:
        meta = self._folder / "meta"
        tasks = [{"task_index": index, "task": task} for task, index in self._tasks.items()]
        _write_lines(meta / "tasks.jsonl", tasks)
        _write_lines(meta / "episodes.jsonl", self._episodes)
        _write_lines(meta / "episodes_stats.jsonl", self._statistics)
        write_json(str(meta / "info.json"), self._info())

    def _write_table(self, episode: int, columns: dict[str, np.ndarray]) -> None:
        table = pa.table({name: _arrow(values) for name, values in columns.items()})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        path = _DATA_PATH.format(episode_chunk=episode // _EPISODES_PER_CHUNK, episode_index=episode)
        write_bytes(str(self._folder / path), buffer.getvalue())

    def _info(self) -> dict[str, Any]:
        episodes = len(self._episodes)
        return {
            "codebase_version": "v2.1",
            "robot_type": self._robot.name,
            "total_episodes": episodes,
            "total_frames": self._num_frames,
            "total_tasks": len(self._tasks),
            "total_videos": episodes,
            "total_chunks": -(-episodes // _EPISODES_PER_CHUNK),
            "chunks_size": _EPISODES_PER_CHUNK,
            "fps": self._robot.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": _DATA_PATH,
            "video_path": _VIDEO_PATH,
            "features": self._features(),
        }

    def _features(self) -> dict[str, Any]:
        size = self._image_size
        actions, states = self._robot.action_names, self._robot.state_names
        numbers = {name: {"dtype": "int64", "shape": [1], "names": None} for name in _INDEX_COLUMNS}
        return {
            "action": {"dtype": "float32", "shape": [len(actions)], "names": list(actions)},
            "observation.state": {"dtype": "float32", "shape": [len(states)], "names": list(states)},
            self._robot.video_key: {
                "dtype": "video",
                "shape": [size, size, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.fps": self._robot.fps,
                    "video.height": size,
                    "video.width": size,
                    "video.channels": 3,
                    "video.codec": "h264",
                    "video.pix_fmt": "yuv420p",
                    "video.is_depth_map": False,
                    "has_audio": False,
                },
            },
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **numbers,
        }


_INDEX_COLUMNS = ("frame_index", "episode_index", "index", "task_index")


def _arrow(values: np.ndarray) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _statistics(values: np.ndarray) -> dict[str, Any]:
    rows = values.reshape(len(values), -1)
    return {**{name: getattr(rows, name)(0).tolist() for name in _STATISTICS}, "count": [len(rows)]}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_bytes(str(path), "".join(json.dumps(row) + "\n" for row in rows).encode())
