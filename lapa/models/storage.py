"""A model folder: `config.json` and `model.safetensors`.

`config.json` is written last, so a folder that has one is whole. Nothing here is pickled.
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


def save_model(folder: Path, *, kind: str, config: BaseModel, state: Mapping[str, Tensor]) -> None:
    """Write a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS_FILE, state)
    plain = config.model_dump(mode="json")
    parts = {"kind": kind, "config": plain, "weights": file_digest(folder / WEIGHTS_FILE)}
    files.write_json(
        str(folder / CONFIG_FILE),
        {"kind": kind, "config": plain, "digest": files.digest(json.dumps(parts, sort_keys=True))},
    )


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
    if not files.exists(files.join(url, WEIGHTS_FILE)):
        raise CheckpointNotFound(f"{url} holds no {WEIGHTS_FILE}. Point to a folder that `save_model` wrote.")
    with tempfile.TemporaryDirectory(prefix="lapa-model-") as cache:
        yield StoredState(files.local_copy(files.join(url, WEIGHTS_FILE), Path(cache)))


def model_digest(url: str) -> str:
    """Names the model's weights and settings: equal exactly when both are."""
    return str(_read_config(url)["digest"])


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors. Names that share one tensor store it once."""
    first_names: dict[tuple[Any, ...], str] = {}
    tied: dict[str, str] = {}
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and identity in first_names:
            tied[name] = first_names[identity]
        else:
            first_names[identity] = name
            kept[name] = tensor.detach()
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

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as file:
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            self.tied: dict[str, str] = json.loads((file.metadata() or {}).get("tied", "{}"))
        self.shapes |= {name: self.shapes[kept] for name, kept in self.tied.items()}

    def __getitem__(self, name: str) -> Tensor:
        with self._opened() as file:
            # Copied out of the memory map: the file may be temporary, or be removed by retention.
            tensor: Tensor = file.get_tensor(self.tied.get(name, name))
            return tensor.clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with safe_open(self._path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self._path} cannot be read: {error}. Use an earlier checkpoint.") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(url: str) -> dict[str, Any]:
    path = files.join(url, CONFIG_FILE)
    if not files.exists(path):
        raise CheckpointNotFound(f"{url} holds no {CONFIG_FILE}. Point to a folder that `save_model` wrote.")
    return dict(files.read_json(path))
