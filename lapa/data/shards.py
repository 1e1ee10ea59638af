"""Episode shards: WebDataset tar files whose members are also found by byte range."""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Member:
    """Byte range of one member's content inside its shard; size 0 where there is none."""

    offset: int = 0
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class EpisodeMembers:
    video: Member
    arrays: Member


class ShardWriter:
    """Writes one shard to a local file; equal episodes give equal bytes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        # USTAR: headers of one fixed size, without times or users of this machine.
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, episode: str, *, video: bytes, metadata: dict[str, Any], arrays: bytes) -> EpisodeMembers:
        """Append `<episode>.mp4`, `.json`, and `.npz` where `arrays` is not empty."""
        description = json.dumps(metadata, sort_keys=True, ensure_ascii=False).encode()
        video_member = self._append(f"{episode}.mp4", video)
        self._append(f"{episode}.json", description)
        arrays_member = self._append(f"{episode}.npz", arrays) if arrays else Member()
        return EpisodeMembers(video=video_member, arrays=arrays_member)

    def _append(self, name: str, data: bytes) -> Member:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mtime = 0
        header.mode = 0o644
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(header, io.BytesIO(data))
        return Member(offset=offset, size=len(data))

    def close(self) -> None:
        self._tar.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """An npz file; empty where there are no arrays."""
    if not arrays:
        return b""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes every keyword for allow_pickle
    return buffer.getvalue()


def unpack_arrays(data: bytes) -> dict[str, np.ndarray]:
    if not data:
        return {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
