"""What an ingest has to do: units of source items, kept in a temporary file, for a source may have millions of them."""

import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lapa import files
from lapa.config.base import result_settings
from lapa.config.data import IngestConfig
from lapa.data.readers.base import SourceItem

FORMAT_VERSION = 2
"""Raise it when the same source and settings would give other shards: everything is then ingested anew."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A run of source items that becomes one shard."""

    number: int
    """Also the number of its shard."""
    items: tuple[SourceItem, ...]
    fingerprint: str


class Plan:
    """All units of an ingest; only their fingerprints and their places in the file are in memory."""

    def __init__(self, items: Iterable[SourceItem], config: IngestConfig) -> None:
        # What the numbers mean is no part of the shards: corrected, it is written anew and they are not.
        self._meaning = () if config.conventions is None else (config.conventions.model_dump_json(),)
        self.num_items = self.declared = 0
        """Source items; and episodes that they declare, one where an item does not say."""
        self.is_declared = True
        """Whether every item says how many episodes it holds."""
        self.fingerprints: list[str] = []
        self._sizes: list[int] = []
        self._ends: list[int] = [0]
        self._file = tempfile.TemporaryFile(prefix="lapa-ingest-plan-")  # noqa: SIM115  # closed with the plan
        for unit in _units(items, config):
            self._append(unit)
        self._file.flush()

    def __len__(self) -> int:
        return len(self.fingerprints)

    def __getitem__(self, number: int) -> Unit:
        begin, end = self._ends[number], self._ends[number + 1]
        unit: Unit = pickle.loads(os.pread(self._file.fileno(), end - begin, begin))
        return unit

    @property
    def fingerprint(self) -> str:
        """Of everything: while it stays the same, there is nothing to do."""
        return files.digest(*self.fingerprints, *self._meaning)

    def num_items_of(self, number: int) -> int:
        return self._sizes[number]

    def _append(self, unit: Unit) -> None:
        self._file.write(pickle.dumps(unit))
        self._ends.append(self._file.tell())
        self._sizes.append(len(unit.items))
        self.fingerprints.append(unit.fingerprint)
        self.num_items += len(unit.items)
        self.declared += sum(item.episodes or 1 for item in unit.items)
        self.is_declared &= all(item.episodes is not None for item in unit.items)


def _units(items: Iterable[SourceItem], config: IngestConfig) -> Iterator[Unit]:
    """Cut the ordered items into units of about `episodes_per_shard` episodes, each of whole items."""
    # Where actions are brought to a lower rate, what they mean decides what is stored.
    stored = config if config.fps is not None else config.model_copy(update={"conventions": None})
    common = files.digest(str(FORMAT_VERSION), repr(result_settings(stored)))
    number = room = 0
    group: list[SourceItem] = []
    for item in items:
        episodes = config.episodes_per_shard if item.episodes is None else item.episodes
        if group and episodes > room:
            yield _unit(number, group, common)
            number, group = number + 1, []
        if not group:
            room = config.episodes_per_shard
        group.append(item)
        room -= episodes
    if group:
        yield _unit(number, group, common)


def _unit(number: int, items: list[SourceItem], common: str) -> Unit:
    described = (f"{item.key} {item.fingerprint}" for item in items)
    return Unit(number=number, items=tuple(items), fingerprint=files.digest(common, *described))
