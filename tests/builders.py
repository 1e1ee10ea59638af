"""Small datasets in the on-disk format, for tests that need one but are not about ingest."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapa import files
from lapa.config.data import VideoEncoding
from lapa.data.dataset import INDEX_FILE, INDEX_SCHEMA, INFO_FILE, ActionStatistics, DatasetInfo, shard_name
from lapa.data.video import encode_mp4

ACTION_DIMS = 3
PROPRIOCEPTION_DIMS = 2


def make_dataset(
    folder: Path | str,
    episodes: int = 6,
    frames: int | list[int] = 20,
    image_size: int = 48,
    actions: bool = True,
    *,
    fps: float = 10.0,
    episodes_per_shard: int = 4,
    seed: int = 0,
    instructions: Sequence[str] = tuple(f"push object {i}" for i in range(3)),
    licence: str = "unknown",
) -> str:
    """Write a dataset and return its URL. Episodes take their `instructions` in turn.

    Frame t of episode row r shows `frame_of(r, t)`; the action at t is (r, t, 0) plus noise below 0.1.
    """
    lengths = [frames] * episodes if isinstance(frames, int) else frames
    random = np.random.default_rng(seed)
    rows, hashes, all_actions, all_proprioception = [], [], [], []
    for shard, first in enumerate(range(0, len(lengths), episodes_per_shard)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in range(first, min(first + episodes_per_shard, len(lengths))):
                name, count = f"episode-{row:04d}", lengths[row]
                steps = np.arange(count)
                action = np.stack([np.full(count, row), steps, np.zeros(count)], axis=1)
                action = (action + random.uniform(0, 0.1, action.shape)).astype(np.float32)
                proprioception = np.stack([steps, -steps], axis=1).astype(np.float32)
                video = encode_mp4([frame_of(row, t, image_size) for t in steps], fps, VideoEncoding())
                arrays = _npz(actions=action, proprioception=proprioception) if actions else b""
                record = {"instruction": instructions[row % len(instructions)], "fps": fps, "embodiment": "test"}
                video_offset = _add(tar, f"{name}.mp4", video)
                _add(tar, f"{name}.json", json.dumps(record).encode())
                arrays_offset = _add(tar, f"{name}.npz", arrays) if arrays else 0
                rows.append(
                    {
                        "episode": name,
                        "shard": shard,
                        "num_frames": count,
                        "fps": fps,
                        "instruction": record["instruction"],
                        "embodiment": "test",
                        "licence": licence,
                        "source": f"test://{name}",
                        "has_actions": actions,
                        "video_offset": video_offset,
                        "video_bytes": len(video),
                        "arrays_offset": arrays_offset,
                        "arrays_bytes": len(arrays),
                    }
                )
                hashes += [video, arrays]
                all_actions.append(action)
                all_proprioception.append(proprioception)
        files.write_bytes(files.join(str(folder), "shards", shard_name(shard)), buffer.getvalue())
    index = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), index)
    files.write_bytes(files.join(str(folder), INDEX_FILE), index.getvalue())
    info = DatasetInfo(
        revision=files.digest(*hashes)[:16],
        num_episodes=len(rows),
        num_frames=sum(lengths),
        num_shards=shard + 1,
        image_size=image_size,
        fps=(fps,),
        embodiments={"test": len(rows)},
        licences={licence: len(rows)},
        instructions=min(len(instructions), len(rows)),
        has_actions=actions,
        action_dims=ACTION_DIMS if actions else 0,
        action_names=("x", "y", "z") if actions else (),
        proprioception_dims=PROPRIOCEPTION_DIMS if actions else 0,
        frame_mean=(0.5, 0.5, 0.5),
        frame_std=(0.25, 0.25, 0.25),
        actions=_statistics(np.concatenate(all_actions)) if actions else None,
        proprioception=_statistics(np.concatenate(all_proprioception)) if actions else None,
        source={"kind": "test", "seed": seed},
    )
    files.write_json(files.join(str(folder), INFO_FILE), info.model_dump(mode="json"))
    return str(folder)


def frame_of(row: int, timestep: int, image_size: int = 48) -> np.ndarray:
    """A bright square on a dark ground: its column counts timesteps, its row counts episodes. h w 3 uint8."""
    frame = np.full((image_size, image_size, 3), 40, np.uint8)
    side = image_size // 6
    top, left = (row * side) % (image_size - side), (timestep * 2) % (image_size - side)
    frame[top : top + side, left : left + side] = 220
    return frame


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a file and return where its bytes begin inside the tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(info, io.BytesIO(data))
    return offset


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _statistics(values: np.ndarray) -> ActionStatistics:
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    columns = {
        "mean": values.mean(0), "std": values.std(0), "min": values.min(0), "max": values.max(0),
        "q01": low, "q99": high,
    }  # fmt: skip
    return ActionStatistics(**{name: tuple(map(float, column)) for name, column in columns.items()})
