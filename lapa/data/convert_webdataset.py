"""WebDataset tars that any of its users can read without us: numbers as `.npy`, words as `.txt` and `.json`."""

import io
import json
import tarfile
from types import TracebackType
from typing import Self

import numpy as np

from lapa.data.convert_output import OutputFolder, StoredEpisode
from lapa.data.dataset import Dataset

SHARD_BYTES = 512 * 2**20
"""A tar is closed once it is this large."""


class WebDatasetWriter:
    """`<id>.mp4`, `.json`, `.txt` (the instruction), `.actions.npy` and `.proprioception.npy` for each episode."""

    not_kept: tuple[str, ...] = ()

    def __init__(self, dataset: Dataset, folder: OutputFolder) -> None:
        self._action_names = list(dataset.info.action_names)
        self._folder = folder
        self._shards = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, episode: StoredEpisode) -> None:
        described = {
            "fps": episode.fps,
            "num_frames": episode.num_frames,
            "instruction": episode.instruction,
            "embodiment": episode.embodiment,
            "licence": episode.licence,
            "source": episode.source,
            "action_names": self._action_names if "actions" in episode.arrays else [],
        }
        members = {
            "mp4": episode.video,
            "json": json.dumps(described, sort_keys=True, ensure_ascii=False).encode(),
            "txt": episode.instruction.encode(),
            **{f"{name}.npy": _npy(values) for name, values in sorted(episode.arrays.items())},
        }
        tar = self._opened()
        for ending, data in members.items():
            header = tarfile.TarInfo(f"{episode.id}.{ending}")
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
        if tar.offset >= SHARD_BYTES:
            self.finish()

    def finish(self) -> None:
        """Close the tar that is open."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None
            self._folder.finish(_shard_name(self._shards))
            self._shards += 1

    def _opened(self) -> tarfile.TarFile:
        if self._tar is None:
            path = self._folder.path(_shard_name(self._shards))
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed by `finish`)
        return self._tar

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tar is not None:
            self._tar.close()


def _shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
