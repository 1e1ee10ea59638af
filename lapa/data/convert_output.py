"""What every conversion shares: a dataset's stored episodes, and a folder whose finished files move to their URL."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fsspec.core import url_to_fs

from lapa import files
from lapa.config.reads import ReadConfig
from lapa.data.dataset import Dataset
from lapa.data.frames import episode_arrays
from lapa.data.objects import ObjectReader
from lapa.data.readers.base import is_local


@dataclass(frozen=True, kw_only=True)
class StoredEpisode:
    """One episode as the shards hold it: its encoded video, and its arrays."""

    id: str
    video: bytes
    arrays: dict[str, np.ndarray]
    """`actions` and `proprioception`, float32 ``t d``, where the episode has them."""
    num_frames: int
    fps: float
    instruction: str
    embodiment: str
    licence: str
    source: str


def stored_episodes(dataset: Dataset) -> Iterator[StoredEpisode]:
    """All episodes in the dataset's order, one at a time. Raises DataError for a shard that is damaged."""
    reader = ObjectReader(ReadConfig(cache=None))
    kept = ("num_frames", "fps", "instruction", "embodiment", "licence", "source")
    for number in range(len(dataset)):
        (row,) = dataset.index.slice(number, 1).to_pylist()
        begin = row["video_offset"]
        video = reader.read(
            dataset.shard_url(row["shard"]), begin, begin + row["video_bytes"], revision=dataset.revision
        )
        arrays = episode_arrays(dataset, number)
        yield StoredEpisode(id=row["episode"], video=video, arrays=arrays, **{name: row[name] for name in kept})


@dataclass
class OutputFolder:
    """Files are written here on this machine and, one by one when they are whole, moved to `url`."""

    local: Path
    url: str
    files: int = field(default=0, init=False)
    bytes: int = field(default=0, init=False)

    def path(self, name: str) -> Path:
        """Where to write the file that will be called `name`."""
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self, name: str) -> None:
        path = self.local / name
        self.files += 1
        self.bytes += path.stat().st_size
        fs, target = url_to_fs(files.join(self.url, name))
        if not is_local(fs):
            fs.put_file(str(path), target)
        else:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            partial = Path(f"{target}.partial")  # beside its place: a file is seen whole or not at all
            shutil.move(path, partial)
            partial.replace(target)
        path.unlink(missing_ok=True)
