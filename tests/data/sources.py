"""Small sources in foreign formats, for tests of readers and ingest."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tfrecord.writer import TFRecordWriter

from lapa import files
from lapa.data.dataset import Dataset

CODECS = {"mp4": "libx264", "webm": "libvpx", "mkv": "libx264", "avi": "mpeg4"}


def moving_square(num_frames: int, *, height: int = 48, width: int = 64, shade: int = 220) -> np.ndarray:
    """uint8 ``t h w 3``: a square that moves two pixels to the right in every frame, on grey."""
    frames = np.full((num_frames, height, width, 3), 90, np.uint8)
    for t, frame in enumerate(frames):
        left = (2 * t) % (width - 16)
        frame[16:32, left : left + 16] = (shade, 40, 10)
    return frames


def write_video(path: Path, frames: np.ndarray, *, fps: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix[1:]], rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_clips(folder: Path, count: int, *, num_frames: int = 8) -> Path:
    """`push_the_cup_000.mp4` and so on, each before a ground of its own, so that none is taken for another's copy."""
    for number in range(count):
        frames = moving_square(num_frames, shade=100 + 5 * number)
        blocks = np.random.default_rng(number).integers(20, 200, (3, 4, 1))
        ground = np.kron(blocks, np.ones((16, 16, 1))).astype(np.uint8)
        frames = np.where((frames == 90).all(axis=-1, keepdims=True), ground, frames)
        write_video(folder / f"push_the_cup_{number:03d}.mp4", frames)
    return folder


def stored_member(dataset: Dataset, row: int, name: str) -> bytes:
    """What a dataset's shard holds of one episode: its `video`, or its `arrays`."""
    found = dataset.index.slice(row, 1).to_pylist()[0]
    offset = found[f"{name}_offset"]
    return files.read_bytes(dataset.shard_url(found["shard"]))[offset : offset + found[f"{name}_bytes"]]


def truncate(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def write_lerobot(folder: Path, lengths: list[int], *, dims: int = 3, fps: float = 10.0) -> Path:
    """A LeRobot v2.1 folder whose actions at timestep t of episode e are (e, t, 0, …)."""
    features = {
        "observation.images.front": {"dtype": "video", "shape": [48, 64, 3]},
        "observation.state": {"dtype": "float32", "shape": [2]},
        "action": {"dtype": "float32", "shape": [dims], "names": {"motors": [f"joint_{d}" for d in range(dims)]}},
        "task_index": {"dtype": "int64", "shape": [1]},
    }
    info = {
        "codebase_version": "v2.1",
        "robot_type": "toy_arm",
        "fps": fps,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    episodes, tasks = [], []
    for number, length in enumerate(lengths):
        task = f"move to spot {number}"
        actions = np.zeros((length, dims), np.float32)
        actions[:, 0], actions[:, 1] = number, np.arange(length)
        write_lerobot_table(folder, number, actions)
        video = folder / f"videos/chunk-000/observation.images.front/episode_{number:06d}.mp4"
        write_video(video, moving_square(length, shade=100 + number), fps=round(fps))
        episodes.append({"episode_index": number, "tasks": [task], "length": length})
        tasks.append({"task_index": number, "task": task})
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    (meta / "info.json").write_text(json.dumps(info))
    (meta / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in episodes))
    (meta / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in tasks))
    return folder


def write_lerobot_table(folder: Path, number: int, actions: np.ndarray) -> None:
    length = len(actions)
    table = pa.table(
        {
            "action": pa.array(list(actions), pa.list_(pa.float32())),
            "observation.state": pa.array([[t, -t] for t in range(length)], pa.list_(pa.float32(), 2)),
            "task_index": pa.array([number] * length, pa.int64()),
        }
    )
    path = folder / f"data/chunk-000/episode_{number:06d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def png_frames(steps: int) -> list[bytes]:
    return [cv2.imencode(".png", frame[..., ::-1])[1].tobytes() for frame in moving_square(steps)]


def write_rlds(folder: Path, episodes: int, *, steps: int = 6) -> Path:
    """A TFDS folder of one shard, with `dataset_info.json`; action t of episode e is (e, t)."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = TFRecordWriter(str(folder / "toy-train.tfrecord-00000-of-00001"))
    for episode in range(episodes):
        frames = moving_square(steps, shade=100 + episode)
        images = [cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes() for frame in frames]
        actions = np.stack([np.full(steps, float(episode)), np.arange(steps, dtype=float)], axis=1)
        writer.write(
            {
                "steps/observation/image_0": (images, "byte"),
                "steps/observation/state": (np.zeros(2 * steps), "float"),
                "steps/action": (actions.ravel(), "float"),
                "steps/language_instruction": ([f"task {episode}".encode()] * steps, "byte"),
            }
        )
    writer.close()
    info = {"splits": [{"name": "train", "shardLengths": [str(episodes)]}]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder
