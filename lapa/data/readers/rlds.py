"""RLDS episodes as TensorFlow Datasets writes them: one tf.train.Example per episode, steps flattened."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import fsspec
import numpy as np

from lapa import files
from lapa.config.data import RldsSource
from lapa.data.readers.base import SourceItem, episode_id, fingerprint, list_files
from lapa.data.readers.images import decode_images
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
        config = self.config
        example = parse_example(payload, name)
        images = _steps(example, config.image_key, name)
        actions = _matrix(example, config.action_key, len(images), name)
        has_state = config.proprioception_key is not None
        state = _matrix(example, str(config.proprioception_key), len(images), name) if has_state else None
        return Episode(
            id=episode_id(name),
            frames=partial(decode_images, images, name),
            fps=config.fps,
            instruction=_instruction(example, config.instruction_key, name),
            actions=actions,
            proprioception=state,
            embodiment=config.embodiment,
            licence=config.licence,
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


def _instruction(example: Example, key: str, name: str) -> str:
    values: Sequence[Any] = _steps(example, key, name)
    if len(values) == 0:
        return ""
    if not isinstance(values[0], bytes):
        raise SourceError(
            f"{name}: {key!r} holds numbers ({type(values[0]).__name__}), not text. Set source.instruction_key to the "
            "feature that holds the instruction."
        )
    return values[0].decode("utf-8", errors="replace").strip()
