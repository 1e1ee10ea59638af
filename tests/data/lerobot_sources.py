"""Small LeRobot v3.0 datasets, laid out as lerobot 0.4 writes them: episodes share tables and videos."""

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.sources import moving_square, write_video

CAMERAS = ("observation.images.front", "observation.images.wrist")
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"


def write_lerobot_v3(
    folder: Path, lengths: list[int], *, per_file: int = 2, fps: int = 10, cameras: tuple[str, ...] = CAMERAS
) -> Path:
    """Actions at timestep t of episode e are (e, t, 0), states (t, -t); camera c shows a square of shade 100+40c+e.

    With `per_file` episodes in each table and video. Instructions of episodes alternate between two.
    """
    features = {camera: {"dtype": "video", "shape": [48, 64, 3]} for camera in cameras} | COLUMNS
    _write_info(folder, features, fps=fps, video_path=f"videos/{{video_key}}/{FILE}.mp4")
    rows, first = [], 0
    for start in range(0, len(lengths), per_file):
        numbers = range(start, min(start + per_file, len(lengths)))
        place = {"chunk_index": start // per_file // 2, "file_index": start // per_file % 2}
        _write_table(folder, place, {number: lengths[number] for number in numbers}, fps)
        for index, camera in enumerate(cameras):
            shown = [moving_square(lengths[number], shade=100 + 40 * index + number) for number in numbers]
            write_video(folder / f"videos/{camera}" / f"{FILE.format(**place)}.mp4", np.concatenate(shown), fps=fps)
        seconds = 0.0
        for number in numbers:
            row = _row(number, lengths[number], first, place)
            for camera in cameras:
                row |= {f"videos/{camera}/{key}": value for key, value in place.items()}
                row[f"videos/{camera}/from_timestamp"] = seconds
                row[f"videos/{camera}/to_timestamp"] = seconds + lengths[number] / fps
            rows.append(row)
            first += lengths[number]
            seconds += lengths[number] / fps
    write_episode_rows(folder, rows)
    return folder


def write_lerobot_v3_with_images(folder: Path, lengths: list[int]) -> Path:
    """A v3.0 dataset whose one camera lies in the tables, as PNG."""
    features = {"observation.image": {"dtype": "image", "shape": [48, 64, 3]}, **COLUMNS}
    _write_info(folder, features, fps=10, video_path=None)
    place = {"chunk_index": 0, "file_index": 0}
    _write_table(folder, place, dict(enumerate(lengths)), 10, with_images=True)
    firsts = np.cumsum([0, *lengths])
    write_episode_rows(folder, [_row(n, length, int(firsts[n]), place) for n, length in enumerate(lengths)])
    return folder


COLUMNS = {
    "observation.state": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
    "action": {"dtype": "float32", "shape": [3], "names": ["dx", "dy", "gripper"]},
    **{name: {"dtype": "int64", "shape": [1], "names": None} for name in ("episode_index", "index", "task_index")},
}


def read_episode_rows(folder: Path) -> list[dict]:
    return pq.ParquetFile(folder / "meta/episodes/chunk-000/file-000.parquet").read().to_pylist()


def write_episode_rows(folder: Path, rows: list[dict]) -> None:
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _row(number: int, length: int, first: int, place: dict[str, int]) -> dict:
    return {
        "episode_index": number,
        "tasks": [f"move to spot {number % 2}"],
        "length": length,
        "dataset_from_index": first,
        "dataset_to_index": first + length,
        "stats/action/min": [float(number), 0.0, 0.0],
        **{f"data/{key}": value for key, value in place.items()},
    }


def _write_info(folder: Path, features: dict, *, fps: int, video_path: str | None) -> None:
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    info = {"codebase_version": "v3.0", "robot_type": "toy_arm", "fps": fps, "chunks_size": 2, "features": features}
    paths = {"data_path": f"data/{FILE}.parquet", "video_path": video_path}
    (meta / "info.json").write_text(json.dumps(info | paths))
    # Pandas keeps the text as an index without a name; lerobot writes it so.
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": ["move to spot 0", "move to spot 1"]})
    pq.write_table(tasks, meta / "tasks.parquet")
    bounds = {"min": [0, 0, 0], "max": [99, 99, 0], "mean": [1, 5, 0], "std": [1, 3, 0], "count": [10]}
    (meta / "stats.json").write_text(json.dumps({"action": bounds}))


def _write_table(
    folder: Path, place: dict[str, int], lengths: dict[int, int], fps: int, *, with_images: bool = False
) -> None:
    path = folder / "data" / f"{FILE.format(**place)}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = [_episode_table(number, length, with_images=with_images) for number, length in lengths.items()]
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def _episode_table(number: int, length: int, *, with_images: bool) -> pa.Table:
    steps = range(length)
    columns = {
        "observation.state": pa.array([[t, -t] for t in steps], pa.list_(pa.float32(), 2)),
        "action": pa.array([[number, t, 0] for t in steps], pa.list_(pa.float32(), 3)),
        "episode_index": pa.array([number] * length, pa.int64()),
        "task_index": pa.array([number % 2] * length, pa.int64()),
    }
    if with_images:
        frames = moving_square(length, shade=100 + number)
        pictures = [cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes() for frame in frames]
        columns["observation.image"] = pa.array([{"bytes": data, "path": None} for data in pictures])
    return pa.table(columns)
