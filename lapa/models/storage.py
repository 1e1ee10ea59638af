"""A model folder: `config.json` and `model.safetensors`.

A large model's weights lie in several files, named and indexed as Hugging Face does it
(`model-00001-of-00003.safetensors`, `model.safetensors.index.json`). `config.json` is written last, so a folder that
has one is whole. Nothing here is pickled.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lapa import files
from lapa.errors import CheckpointError, CheckpointMismatch, CheckpointNotFound

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
"""Weights beyond this many bytes go to another file."""


def save_model(
    folder: Path, *, kind: str, config: BaseModel, state: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES
) -> None:
    """Write a model folder. Of a state that reads its tensors one by one, no more than one file is in memory."""
    weights = save_weights(folder, state, shard_bytes=shard_bytes)
    plain = config.model_dump(mode="json")
    parts = {"kind": kind, "config": plain, "weights": weights}
    files.write_json(
        str(folder / CONFIG_FILE),
        {"kind": kind, "config": plain, "digest": files.digest(json.dumps(parts, sort_keys=True))},
    )


def save_weights(folder: Path, state: Mapping[str, Tensor], *, shard_bytes: int = SHARD_BYTES) -> str:
    """Write weights to one file, or to several and an index of them; the digest of that file."""
    folder.mkdir(parents=True, exist_ok=True)
    tied = ties(state)
    shards: list[list[str]] = []
    total, held = 0, {}  # type: int, dict[str, Tensor]
    for name in (name for name in state if name not in tied):
        tensor = state[name]
        if held and sum(kept.nbytes for kept in held.values()) + tensor.nbytes > shard_bytes:
            shards.append(_write_shard(folder, len(shards), held, tied))
            held = {}
        held[name] = tensor
        total += tensor.nbytes
    shards.append(_write_shard(folder, len(shards), held, tied))
    if len(shards) == 1:
        (folder / _shard_name(0)).replace(folder / WEIGHTS_FILE)
        return file_digest(folder / WEIGHTS_FILE)
    places: dict[str, str] = {}
    for number, names in enumerate(shards):
        final = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / _shard_name(number)).replace(folder / final)
        places |= dict.fromkeys(names, final)
    digests = {name: file_digest(folder / name) for name in sorted(set(places.values()))}
    index = {"metadata": {"total_size": total, "sha256": digests}, "weight_map": places}
    files.write_json(str(folder / INDEX_FILE), index)
    return file_digest(folder / INDEX_FILE)


def _shard_name(number: int) -> str:
    return f"partial-{number:05d}.safetensors"


def _write_shard(folder: Path, number: int, held: Mapping[str, Tensor], tied: Mapping[str, str]) -> list[str]:
    """Write one file; the names that are found in it, a tied one where the tensor is."""
    aliases = {alias: held[name] for alias, name in tied.items() if name in held}
    save_tensors(folder / _shard_name(number), {**held, **aliases})
    return [*held, *aliases]


def ties(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Further names of one tensor. A state that reads its tensors one by one knows them."""
    known: dict[str, str] | None = getattr(state, "tied", None)
    if known is not None:
        return known
    first_names: dict[tuple[Any, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in state.items():
        first = first_names.setdefault(_identity(tensor), name)
        if first != name and tensor.numel():
            tied[name] = first
    return tied


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def load_config(url: str, kind: str) -> dict[str, Any]:
    """The config a model of this kind was saved with, as plain data.

    CheckpointNotFound when the folder holds no model, CheckpointMismatch when it holds one of another kind.
    """
    stored = _read_config(url)
    if stored["kind"] != kind:
        raise CheckpointMismatch(
            f"{url} holds a model of kind {stored['kind']!r}, a {kind!r} model is needed. Point to another folder."
        )
    return dict(stored["config"])


def model_kind(url: str) -> str:
    """Of the model in a folder, e.g. `latent-action`. CheckpointNotFound when the folder holds none."""
    return str(_read_config(url)["kind"])


def load_state(url: str) -> dict[str, Tensor]:
    """All weights and buffers of a model folder, on the CPU."""
    with open_state(url) as state:
        return load_all(state)


@contextmanager
def open_state(url: str) -> Iterator["StoredState"]:
    """All weights and buffers of a model folder, each read when it is asked for."""
    names = weight_files(url)
    if not names:
        raise CheckpointNotFound(f"{url} holds no {WEIGHTS_FILE}. Point to a folder that `save_model` wrote.")
    with tempfile.TemporaryDirectory(prefix="lapa-model-") as cache:
        yield StoredState(*(files.local_copy(files.join(url, name), Path(cache)) for name in names))


def weight_files(url: str) -> list[str]:
    """Names of the files that hold a model folder's weights; none where it holds no model."""
    if files.exists(files.join(url, WEIGHTS_FILE)):
        return [WEIGHTS_FILE]
    index = files.join(url, INDEX_FILE)
    return sorted(set(files.read_json(index)["weight_map"].values())) if files.exists(index) else []


def model_digest(url: str) -> str:
    """Names the model's weights and settings: equal exactly when both are."""
    return str(_read_config(url)["digest"])


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors. Names that share one tensor store it once."""
    tied = ties(tensors)
    kept = {name: tensor.detach() for name, tensor in tensors.items() if name not in tied}
    # Views into one larger storage (flat buckets) are copied apart: safetensors refuses shared memory.
    storages: set[int] = set()
    for name, tensor in kept.items():
        address = tensor.untyped_storage().data_ptr()
        if address in storages or not tensor.is_contiguous():
            kept[name] = tensor.clone(memory_format=torch.contiguous_format)
        storages.add(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One metadata key only: safetensors writes several in random order, and equal weights must be equal bytes.
    save_file(kept, path, metadata={"tied": json.dumps(tied, sort_keys=True)})


def load_tensors(path: Path) -> dict[str, Tensor]:
    """What `save_tensors` wrote, on the CPU; CheckpointError when the file is damaged."""
    return load_all(StoredState(path))


def load_all(state: "StoredState") -> dict[str, Tensor]:
    """Every tensor; names that share one get the same one."""
    read = {name: state[name] for name in state if name not in state.tied}
    return read | {name: read[kept] for name, kept in state.tied.items()}


class StoredState(Mapping[str, Tensor]):
    """What `save_tensors` wrote, one tensor at a time, on the CPU; CheckpointError when the file is damaged."""

    def __init__(self, *paths: Path) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tied: dict[str, str] = {}
        self._paths: dict[str, Path] = {}
        for path in paths:
            with _opened(path) as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
                self.tied |= json.loads((file.metadata() or {}).get("tied", "{}"))
            self.shapes |= shapes
            self._paths |= dict.fromkeys(shapes, path)
        self.shapes |= {name: self.shapes[kept] for name, kept in self.tied.items()}

    def __getitem__(self, name: str) -> Tensor:
        first = self.tied.get(name, name)
        with _opened(self._paths[first]) as file:
            # Copied out of the memory map: the file may be temporary, or be removed by retention.
            tensor: Tensor = file.get_tensor(first)
            return tensor.clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Use an earlier checkpoint.") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(url: str) -> dict[str, Any]:
    path = files.join(url, CONFIG_FILE)
    if not files.exists(path):
        raise CheckpointNotFound(f"{url} holds no {CONFIG_FILE}. Point to a folder that `save_model` wrote.")
    return dict(files.read_json(path))
