"""RLDS episodes as TensorFlow Datasets writes them: one tf.train.Example per episode, steps flattened."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import fsspec
import numpy as np

from lapa import files
from lapa.config.conventions import Conventions
from lapa.config.data import RldsSource
from lapa.data.readers.base import SourceItem, episode_id, fingerprint, list_files
from lapa.data.readers.images import decode_images
from lapa.data.readers.openx import ActionPart, RldsLayout, layout_of
from lapa.data.readers.tfrecord import parse_example, read_records
from lapa.errors import SourceError
from lapa.types.episodes import Episode

RECORDS_PER_ITEM = 64
"""Files are read in runs of this many episodes, so that several processes can share a large one."""

Example = Mapping[str, np.ndarray | list[bytes]]


class RldsReader:
    """One item per run of records in one TFRecord file."""

    def __init__(self, config: RldsSource) -> None:
        self.config = config
        self.layout = layout_of(config)
        listing = list_files(config.url)
        tables = {name: file for name, file in listing.items() if ".tfrecord" in name and "/" not in name}
        self.files = {name: file for name, file in tables.items() if f"-{config.split}.tfrecord" in name}
        if not self.files:
            splits = sorted({match[1] for name in tables if (match := re.search(r"-(\w+)\.tfrecord", name))})
            raise SourceError(
                f"{config.url} holds no TFRecord file of split {config.split!r}; splits found: {splits}. Point "
                "source.url at the folder with dataset_info.json, or set source.split."
            )
        self.lengths = _shard_lengths(config, listing)

    def items(self) -> list[SourceItem]:
        items = []
        for name, file in self.files.items():
            for start, stop in self._runs(name):
                label = "all" if stop is None else f"{start:06d}-{stop:06d}"
                count = None if stop is None else stop - start
                items.append(SourceItem(key=f"{name}#{label}", fingerprint=fingerprint(file), episodes=count))
        return items

    def conventions(self) -> Conventions:
        """What the table of Open-X datasets knows; nothing where the settings name no such dataset."""
        return self.layout.conventions

    def read(self, item: SourceItem) -> Iterator[Episode | SourceError]:
        name, label = item.key.rsplit("#", 1)
        start, stop = (0, None) if label == "all" else map(int, label.split("-"))
        with fsspec.open(files.join(self.config.url, name), "rb") as file:
            for number, payload in enumerate(read_records(file, name, start=start, stop=stop), start=start):
                if isinstance(payload, SourceError):
                    yield payload
                    continue
                try:
                    yield self._episode(payload, f"{name}#{number:06d}")
                except SourceError as error:
                    yield error

    def _episode(self, payload: bytes, name: str) -> Episode:
        config, layout = self.config, self.layout
        example = parse_example(payload, name)
        images = _steps(example, layout.image_key, name)
        return Episode(
            id=episode_id(name),
            frames=partial(decode_images, images, name),
            fps=layout.fps,
            instruction=_instruction(example, layout, len(images), name),
            actions=_actions(example, layout.action, len(images), name),
            proprioception=_joined(example, layout.proprioception, len(images), name),
            action_names=layout.conventions.action_names,
            embodiment=_first_known(config.embodiment, layout.conventions.embodiment),
            licence=_first_known(config.licence, layout.conventions.licence),
            source=name,
        )

    def _runs(self, name: str) -> list[tuple[int, int | None]]:
        length = self.lengths.get(name)
        if length is None:
            return [(0, None)]
        return [(start, min(start + RECORDS_PER_ITEM, length)) for start in range(0, length, RECORDS_PER_ITEM)]


def _shard_lengths(config: RldsSource, listing: Mapping[str, Any]) -> dict[str, int]:
    """Episodes per file from `dataset_info.json`; empty where that is missing or tells of other files."""
    if "dataset_info.json" not in listing:
        return {}
    url = files.join(config.url, "dataset_info.json")
    try:
        splits: dict[str, Any] = {split["name"]: split for split in files.read_json(url).get("splits", [])}
        lengths = [int(length) for length in splits.get(config.split, {}).get("shardLengths", [])]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(
            f"{url} is damaged, or its `splits` do not each have `name` and `shardLengths`: {error!r}. Download it "
            "again, or remove it: whole files are read without it."
        ) from error
    names = {}
    for name in listing:
        match = re.search(rf"-{re.escape(config.split)}\.tfrecord-(\d+)-of-(\d+)$", name)
        if match and int(match[2]) == len(lengths):
            names[name] = lengths[int(match[1])]
    return names


def _steps(example: Example, key: str, name: str) -> Any:
    """Values of one key over all steps, wherever the dataset nests it."""
    for path in (f"steps/observation/{key}", f"steps/{key}", f"steps/action/{key}", key):
        if path in example:
            return example[path]
    present = sorted(path.removeprefix("steps/") for path in example)
    raise SourceError(f"{name} has no feature {key!r}; it has {present}. Set the source's keys accordingly.")


def _matrix(example: Example, key: str, steps: int, name: str) -> np.ndarray:
    values = np.asarray(_steps(example, key, name))
    if values.dtype.kind not in "fi" or steps == 0 or values.size % steps:
        raise SourceError(
            f"{name}: {key!r} holds {values.size} values ({values.dtype}) for {steps} images; it must hold the same "
            "number of numbers for every image."
        )
    return values.astype(np.float32).reshape(steps, -1)


def _actions(example: Example, action: tuple[ActionPart, ...] | str, steps: int, name: str) -> np.ndarray:
    if isinstance(action, str):
        return _matrix(example, action, steps, name)
    return np.concatenate([_part(example, part, steps, name) for part in action], axis=1)


def _part(example: Example, part: ActionPart, steps: int, name: str) -> np.ndarray:
    values = _matrix(example, part.key, steps, name)
    first, last = part.take or (0, values.shape[1])
    if last > values.shape[1] or last - first != len(part.dims):
        raise SourceError(
            f"{name}: {part.key!r} has {values.shape[1]} columns, and the table of Open-X datasets takes "
            f"{first} to {last} of them as {', '.join(part.dims)}. Describe this version of the dataset in a table of "
            "your own (source.openx_table)."
        )
    return values[:, first:last]


def _joined(example: Example, keys: Sequence[str], steps: int, name: str) -> np.ndarray | None:
    return np.concatenate([_matrix(example, key, steps, name) for key in keys], axis=1) if keys else None


def _first_known(given: str, known: str | None) -> str:
    return known or "unknown" if given == "unknown" else given


def _instruction(example: Example, layout: RldsLayout, steps: int, name: str) -> str:
    key = layout.instruction_key
    values: Sequence[Any] = _steps(example, key, name)
    if len(values) == 0:
        return ""
    if layout.instruction_encoding == "code-points":
        return _from_code_points(np.asarray(values), steps, key, name)
    if not isinstance(values[0], bytes):
        raise SourceError(
            f"{name}: {key!r} holds numbers ({type(values[0]).__name__}), not text. Set source.instruction_key to the "
            "feature that holds the instruction."
        )
    return values[0].decode("utf-8", errors="replace").strip()


def _from_code_points(values: np.ndarray, steps: int, key: str, name: str) -> str:
    """Language Table keeps a row of Unicode code points for each step, filled up with zeros."""
    if values.dtype.kind not in "iu" or not steps or values.size % steps:
        raise SourceError(f"{name}: {key!r} holds no code points. Set instruction_encoding: text in the table.")
    points = values.reshape(steps, -1)[0]
    return "".join(chr(point) for point in points.tolist() if 0 < point < 0x110000).strip()
