"""The training state on disk: one format for every engine and every number of ranks.

    training_state/weights-00001-00000.safetensors   parts of tensors: of one kind, one rank, numbered
    training_state/rank-00001.json                   which parts that rank wrote, and its files' sizes and digests
    training_state/state.json                        written last: step, shapes, and where every part of a tensor lies

Tensors are named `weights/…`, `exp_avg/…`, `exp_avg_sq/…`, `average/…` after the parameter, `buffers/…` after the
buffer. Each is cut into parts of its flattened elements, written by whichever rank held them: no rank needs a whole
model to save it. Read back, a tensor is put together from its parts, so any number of ranks can go on.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from fsspec.core import url_to_fs
from torch import Tensor

from lapa import files
from lapa.errors import CheckpointError, CheckpointMismatch
from lapa.models.storage import file_digest, save_tensors

VERSION = 2
STATE_FILE = "state.json"
SHARD_BYTES = 1_000_000_000
"""A file takes no further part once it holds this much."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some of a tensor's elements, flattened, on the host."""

    key: str
    start: int
    """Of the first one, among all elements of the tensor."""
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one rank keeps of the training state of one step; nothing changes it any more."""

    rank: int
    world_size: int
    header: dict[str, Any]
    """Step and shapes; the same on every rank."""
    parts: list[Part]

    @property
    def num_bytes(self) -> int:
        return sum(part.values.nbytes for part in self.parts)


def index_name(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def write_parts(snapshot: Snapshot, folder: Path, *, shard_bytes: int = SHARD_BYTES) -> Iterator[Path]:
    """Write one rank's files, each yielded when it is whole (and free to be moved away); its index last."""
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, list[Any]] = {}
    written: dict[str, dict[str, Any]] = {}
    for number, (kind, parts) in enumerate(_shards(snapshot.parts, shard_bytes)):
        path = folder / f"{kind}-{snapshot.rank:05d}-{number:05d}.safetensors"
        save_tensors(path, {part.key: part.values for part in parts})
        offsets = _offsets(path)
        for part in parts:
            kind_of_number = str(part.values.dtype).removeprefix("torch.")
            places[part.key] = [path.name, part.start, part.values.numel(), offsets[part.key], kind_of_number]
        written[path.name] = describe_file(path)
        yield path
    index = folder / index_name(snapshot.rank)
    files.write_json(str(index), {"parts": places, "files": written})
    yield index


def join_indices(url: str, header: Mapping[str, Any], world_size: int, read: Callable[[str], Any]) -> dict[str, Any]:
    """Write `state.json` over the indices of all ranks; returns sizes and digests of the state's files."""
    parts: dict[str, list[list[Any]]] = {}
    written: dict[str, Any] = {}
    for rank in range(world_size):
        index = read(files.join(url, index_name(rank)))
        written |= index["files"]
        for key, place in index["parts"].items():
            parts.setdefault(key, []).append(place)
    ordered = {key: sorted(places, key=lambda place: place[1]) for key, places in parts.items()}
    data = json.dumps({**header, "version": VERSION, "parts": ordered}, sort_keys=True).encode()
    files.write_bytes(files.join(url, STATE_FILE), data)
    written[STATE_FILE] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return written


def describe_file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


class StateReader:
    """Tensors of a training state by name. Only the bytes that are asked for are read, from any fsspec URL."""

    def __init__(self, url: str, *, retry: Callable[[Callable[[], list[bytes]]], list[bytes]] | None = None) -> None:
        """`retry` runs a request again that the store refused."""
        self.url = url
        self._retry = retry or (lambda request: request())
        self.header: dict[str, Any] = files.read_json(files.join(url, STATE_FILE))
        if self.header.get("version") != VERSION:
            raise CheckpointMismatch(
                f"{url} was written by another version of lapa (format {self.header.get('version')}, this one reads "
                f"{VERSION}). Go on with that version, or start the stage afresh: lapactl run … --force STAGE."
            )
        self._fs, self._path = url_to_fs(url)

    @property
    def keys(self) -> set[str]:
        return set(self.header["parts"])

    def read(self, key: str) -> Tensor:
        """One whole tensor, on the CPU. CheckpointError when some of it is missing."""
        places = self.header["parts"][key]
        kind: torch.dtype = getattr(torch, places[0][4])
        size = torch.empty((), dtype=kind).element_size()
        paths = [f"{self._path}/{name}" for name, *_ in places]
        begins = [offset for _, _, _, offset, _ in places]
        ends = [offset + count * size for _, _, count, offset, _ in places]
        try:
            raw = self._retry(lambda: self._fs.cat_ranges(paths, begins, ends, on_error="raise"))
        except OSError as error:
            raise CheckpointError(f"{self.url} cannot be read: {error}. Use an earlier checkpoint.") from error
        if [len(data) for data in raw] != [end - begin for begin, end in zip(begins, ends, strict=True)]:
            raise CheckpointError(f"{self.url} lacks bytes of {key}. Use an earlier checkpoint.")
        kind_of_tensor, _, name = key.partition("/")
        shape = self.header["buffers" if kind_of_tensor == "buffers" else "parameters"][name]
        return torch.cat([torch.frombuffer(bytearray(data), dtype=kind) for data in raw]).view(shape)


class SavedModel(Mapping[str, Tensor]):
    """A model's weights (averaged ones where there are any) and buffers, each put together when it is asked for."""

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self.tied: dict[str, str] = reader.header["tied"]
        """Further names of a weight."""

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        header = self._reader.header
        own = {name: tuple(shape) for name, shape in (header["parameters"] | header["buffers"]).items()}
        return own | {alias: own[name] for alias, name in self.tied.items()}

    def __getitem__(self, name: str) -> Tensor:
        first = self.tied.get(name, name)
        kinds = ("buffers",) if first in self._reader.header["buffers"] else ("average", "weights")
        for kind in kinds:
            if (key := f"{kind}/{first}") in self._reader.header["parts"]:
                return self._reader.read(key)
        return torch.empty(self.shapes[name])  # a tensor of no elements has no parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def _shards(parts: list[Part], shard_bytes: int) -> Iterator[tuple[str, list[Part]]]:
    """Parts of one kind, as many as fit one file."""
    parts = sorted(parts, key=lambda part: part.key.partition("/")[0])
    held: list[Part] = []
    kind, size = "", 0
    for part in parts:
        its_kind = part.key.partition("/")[0]
        if held and (its_kind != kind or size + part.values.nbytes > shard_bytes):
            yield kind, held
            held, size = [], 0
        kind = its_kind
        held.append(part)
        size += part.values.nbytes
    if held:
        yield kind, held


def _offsets(path: Path) -> dict[str, int]:
    """Where each tensor's bytes begin in a safetensors file: behind 8 bytes that count the header's, and the header."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return {name: 8 + size + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}
