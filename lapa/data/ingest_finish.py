"""The end of an ingest: from the units' records to the index, the report and, last, the manifest.

Records are read one after the other. Of each episode 16 bytes stay in memory, and while duplicates are looked for
about 150; what the report names stays, too, and that is bounded.
"""

import logging
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapa import files
from lapa.config.conventions import Conventions
from lapa.config.data import IngestConfig
from lapa.data.conventions import checked_conventions
from lapa.data.dataset import INDEX_FILE, INDEX_SCHEMA, INFO_FILE, ActionStatistics, DatasetInfo
from lapa.data.ingest_plan import Plan
from lapa.data.ingest_records import UnitRecord, made_record, read_actions, remove_stale
from lapa.data.ingest_report import IngestReport
from lapa.data.ingest_tally import Tally
from lapa.data.ingest_twins import Twins, TwinSearch
from lapa.data.parquet import read_parquet
from lapa.data.statistics import FrameSums, action_statistics
from lapa.errors import DataError, SourceError

logger = logging.getLogger(__name__)

_ROW_GROUP = 8_192
"""Episodes of the index that are in memory at a time, a unit more at most."""


def finish(plan: Plan, config: IngestConfig, output_url: str, conventions: Conventions) -> IngestReport:
    """Of a folder whose units are all there. Raises what `ingest` does."""
    tally = Tally()
    contents = _Contents(_twins(plan, config, output_url, tally))
    with tempfile.TemporaryDirectory(prefix="lapa-ingest-index-") as folder:
        _write_index(plan, output_url, contents, Path(folder) / INDEX_FILE)
        if not contents.num_episodes:
            raise SourceError(_nothing_kept(tally.report(plan), tally))
        info = contents.info(plan, config, output_url, conventions)
        remove_stale(output_url, len(plan))
        files.upload(Path(folder), output_url)
    report = tally.report(plan).model_copy(
        update={
            "finished": True,
            "revision": info.revision,
            "shard_bytes": tuple(tally.shard_bytes),
            "num_episodes": info.num_episodes,
            "num_frames": info.num_frames,
        }
    )
    report.write(output_url)
    files.write_json(files.join(output_url, INFO_FILE), info.model_dump(mode="json"))
    logger.info(
        "event=ingest-finished url=%s revision=%s episodes=%d frames=%d failed=%d skipped=%d",
        output_url, info.revision, info.num_episodes, info.num_frames, report.num_failed, report.num_skipped,
    )  # fmt: skip
    return report


def _twins(plan: Plan, config: IngestConfig, output_url: str, tally: Tally) -> Twins:
    """Found where not too much has failed. Everything is tallied."""
    search = TwinSearch(config, output_url)
    for record in _records(plan, output_url):
        tally.add(record)
        search.add(record)
    report = tally.report(plan)
    report.write(output_url)
    report.check_failures(config, output_url)
    twins = search.found()
    for number, note in enumerate(twins.notes):
        tally.note(note, alike=1 if number else 1 + twins.unnamed)
    return twins


def _records(plan: Plan, output_url: str) -> Iterator[UnitRecord]:
    for number in range(len(plan)):
        yield made_record(output_url, number)


def _nothing_kept(report: IngestReport, tally: Tally) -> str:
    problems = [*report.failed, *report.skipped, *tally.dropped]
    if not problems:
        return "the source holds no episode."
    first = problems[0]
    return f"no episode of {report.num_sources} sources could be kept; the first: {first.source}: {first.reason}"


def _write_index(plan: Plan, output_url: str, contents: "_Contents", path: Path) -> None:
    """Raises DataError for an episode id that is there twice."""
    waiting = [INDEX_SCHEMA.empty_table()]
    with pq.ParquetWriter(path, INDEX_SCHEMA) as writer:
        for record in _records(plan, output_url):
            waiting.append(pa.Table.from_pylist(contents.kept_rows(record), schema=INDEX_SCHEMA))
            if sum(map(len, waiting)) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting = [INDEX_SCHEMA.empty_table()]
        writer.write_table(pa.concat_tables(waiting).combine_chunks())
    if (place := contents.first_repeated()) is not None:
        with path.open("rb") as file:
            name = read_parquet(file, ["episode"])["episode"][place]
        raise DataError(f"the source gives an episode id more than once: {name}.")


class _Contents:
    """What `dataset.json` tells, gathered record by record."""

    def __init__(self, twins: Twins) -> None:
        self.num_episodes = self.num_frames = 0
        self._twins = twins
        self._clips = 0
        self._ids, self._instructions = array("Q"), array("Q")
        """Hashes: of every episode's id; of a unit's distinct instructions."""
        self._content = files.Digest()
        self._counts: dict[str, Counter[Any]] = {name: Counter() for name in ("fps", "embodiment", "licence")}
        self._lack_actions = 0
        self._dimensions: dict[str, set[int]] = {"actions": set(), "proprioception": set()}
        self._action_names: tuple[str, ...] = ()
        self._frame_sums = FrameSums()

    def kept_rows(self, record: UnitRecord) -> list[dict[str, Any]]:
        """The record's episodes for the index, without dropped duplicates."""
        rows = []
        for row, content in zip(record.rows, record.content, strict=True):
            if not self._twins.is_dropped(self._clips):
                rows.append(row | self._twins.marks(self._clips, row))
                self._add(row, content)
            self._clips += 1
        instructions = {row["instruction"] for row in rows if row["instruction"]}
        self._instructions.extend(map(files.digest_number, instructions))
        self._frame_sums += record.frame_sums
        self._action_names = self._action_names or record.action_names
        for name, found in self._dimensions.items():
            found |= {record.dimensions[name]} if name in record.dimensions else set()
        return rows

    def _add(self, row: dict[str, Any], content: str) -> None:
        self._ids.append(files.digest_number(row["episode"]))
        self._content.add(content)
        self.num_episodes += 1
        self.num_frames += row["num_frames"]
        for name, counter in self._counts.items():
            counter[row[name]] += 1
        self._lack_actions += not row["has_actions"]

    def first_repeated(self) -> int | None:
        """Row of the first episode whose id an earlier one has."""
        ids = np.frombuffer(self._ids, np.uint64)
        order = np.argsort(ids, kind="stable")
        repeated = order[1:][ids[order[1:]] == ids[order[:-1]]]
        return int(repeated.min()) if len(repeated) else None

    def info(self, plan: Plan, config: IngestConfig, output_url: str, conventions: Conventions) -> DatasetInfo:
        dimensions = {name: _only(name, found) for name, found in self._dimensions.items()}
        frame_mean, frame_std = self._frame_sums.mean_and_std()
        info = DatasetInfo(
            revision=self._content.hex(),
            num_episodes=self.num_episodes,
            num_frames=self.num_frames,
            num_shards=len(plan),
            image_size=config.image_size,
            resize=config.resize,
            fps=tuple(sorted(self._counts["fps"])),
            embodiments=dict(sorted(self._counts["embodiment"].items())),
            licences=dict(sorted(self._counts["licence"].items())),
            instructions=len(np.unique(np.frombuffer(self._instructions, np.uint64))),
            has_actions=not self._lack_actions,
            action_dims=dimensions["actions"],
            action_names=self._action_names,
            proprioception_dims=dimensions["proprioception"],
            frame_mean=frame_mean,
            frame_std=frame_std,
            actions=_statistics("actions", output_url, plan, dimensions),
            proprioception=_statistics("proprioception", output_url, plan, dimensions),
            source=config.source.model_dump(mode="json"),
        )
        checked = checked_conventions(conventions, info)
        names = checked.action_names or info.action_names
        return info.model_copy(update={"conventions": checked, "action_names": names})


def _only(name: str, found: set[int]) -> int:
    if len(found) > 1:
        raise DataError(
            f"the source mixes {name} of {' and '.join(map(str, sorted(found)))} dimensions. Ingest robots with "
            "different actions as separate datasets."
        )
    return next(iter(found), 0)


def _statistics(name: str, output_url: str, plan: Plan, dimensions: dict[str, int]) -> ActionStatistics | None:
    """Over everything that was stored, dropped duplicates among it: they say nothing else."""
    if not dimensions[name]:
        return None
    parts = (read_actions(output_url, number) for number in range(len(plan)))
    return action_statistics(arrays[name] for arrays in parts if name in arrays)
