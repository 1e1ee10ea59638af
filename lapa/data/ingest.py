"""From a source to a dataset: plan units, make the missing ones in parallel, then index them.

Running it again continues after a kill, redoes what changed in the source, and does nothing when nothing did.
"""

import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed

import pyarrow as pa
import pyarrow.parquet as pq

from lapa import files
from lapa.config.data import IngestConfig
from lapa.data.dataset import INDEX_FILE, INDEX_SCHEMA, INFO_FILE, ActionStatistics, DatasetInfo, stored_shards
from lapa.data.ingest_report import IngestReport, SourceProblem
from lapa.data.ingest_unit import (
    Unit,
    UnitRecord,
    plan_units,
    read_actions,
    read_record,
    remove_stale,
    run_unit,
)
from lapa.data.pool import available_cores, worker_pool
from lapa.data.readers.base import SourceReader
from lapa.data.readers.build import build_reader
from lapa.data.statistics import FrameSums, action_statistics
from lapa.errors import DataError, SourceError

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Sources done, sources in all, and a word on what is happening."""


def ingest(config: IngestConfig, output_url: str, *, progress: Progress | None = None) -> IngestReport:
    """Make the dataset at `output_url` what the source and the settings say.

    Raises SourceError for an unusable source, TooManyFailures above `max_failed_share`, and ConfigError for a frame
    rate that actions forbid.
    """
    tell = progress or _silent
    tell(0, 0, f"listing {config.source.kind}")
    reader = build_reader(config.source)
    items = reader.items()
    units = plan_units(items, config)
    fingerprint = files.digest(*(unit.fingerprint for unit in units))
    if (report := _finished_report(output_url, fingerprint)) is not None:
        logger.info("event=ingest-unchanged url=%s revision=%s", output_url, report.revision)
        tell(len(items), len(items), "unchanged")
        report.check_failures(config, output_url)
        return report
    # From here on the folder is being changed: without its manifest nobody takes it for complete.
    files.remove(files.join(output_url, INFO_FILE))
    records = _make_units(reader, units, config, output_url, fingerprint, tell)
    report = _report(units, records, fingerprint)
    report.write(output_url)
    report.check_failures(config, output_url)
    return _finish(config, output_url, units, records, report)


def is_current(config: IngestConfig, output_url: str) -> bool:
    """Whether the dataset at `output_url` is what `ingest` would make now: only lists the source."""
    units = plan_units(build_reader(config.source).items(), config)
    return _finished_report(output_url, files.digest(*(unit.fingerprint for unit in units))) is not None


def _finished_report(output_url: str, fingerprint: str) -> IngestReport | None:
    report = IngestReport.of_whole(output_url)
    return report if report is not None and report.fingerprint == fingerprint else None


def _make_units(
    reader: SourceReader,
    units: Sequence[Unit],
    config: IngestConfig,
    output_url: str,
    fingerprint: str,
    tell: Progress,
) -> dict[int, UnitRecord]:
    """Records of all units by number; those already there are kept. Stops early once too much has failed."""
    stored = stored_shards(output_url)
    records = {unit.number: record for unit in units if (record := read_record(output_url, unit, stored)) is not None}
    missing = [unit for unit in units if unit.number not in records]
    total = sum(len(unit.items) for unit in units)
    done = total - sum(len(unit.items) for unit in missing)
    logger.info("event=ingest-started url=%s units=%d units_kept=%d", output_url, len(units), len(records))
    can_stop_early = all(item.episodes is not None for unit in units for item in unit.items)
    for unit, record in _run(reader, missing, config, output_url):
        records[unit.number] = record
        done += len(unit.items)
        tell(done, total, f"shard {unit.number}: {len(record.rows)} episodes, {len(record.failed)} failed")
        if can_stop_early and record.failed:
            so_far = _report(units, records, fingerprint)
            so_far.write(output_url)
            so_far.check_failures(config, output_url)
    return records


def _run(
    reader: SourceReader, units: Sequence[Unit], config: IngestConfig, output_url: str
) -> Iterator[tuple[Unit, UnitRecord]]:
    """Units with their records, as they become ready."""
    workers = min(config.workers or available_cores(), len(units))
    if workers <= 1:
        for unit in units:
            yield unit, run_unit(reader, unit, config, output_url)
        return
    remedy = "Run ingest again with a smaller `workers`; finished shards are kept."
    arguments = (reader, config, output_url)
    with worker_pool(workers, work="ingest", remedy=remedy, start=_start_worker, arguments=arguments) as pool:
        running = {pool.submit(_run_in_worker, unit): unit for unit in units}
        for future in as_completed(running):
            yield running[future], future.result()


_work: tuple[SourceReader, IngestConfig, str] | None = None
"""What every unit of this worker process shares, sent once instead of with each unit."""


def _start_worker(reader: SourceReader, config: IngestConfig, output_url: str) -> None:
    global _work
    _work = (reader, config, output_url)


def _run_in_worker(unit: Unit) -> UnitRecord:
    assert _work is not None, "the pool starts its workers with _start_worker"
    reader, config, output_url = _work
    return run_unit(reader, unit, config, output_url)


def _report(units: Sequence[Unit], records: dict[int, UnitRecord], fingerprint: str) -> IngestReport:
    ordered = [records[number] for number in sorted(records)]
    found = sum(len(record.rows) + len(record.failed) + len(record.skipped) for record in ordered)
    declared = sum(item.episodes or 1 for unit in units for item in unit.items)
    return IngestReport(
        fingerprint=fingerprint,
        finished=False,
        num_sources=max(found, declared),
        num_episodes=sum(len(record.rows) for record in ordered),
        num_frames=sum(row["num_frames"] for record in ordered for row in record.rows),
        failed=_problems(record.failed for record in ordered),
        skipped=_problems(record.skipped for record in ordered),
    )


def _problems(parts: Iterator[list[SourceProblem]]) -> list[SourceProblem]:
    return [problem for part in parts for problem in part]


def _finish(
    config: IngestConfig,
    output_url: str,
    units: Sequence[Unit],
    records: dict[int, UnitRecord],
    report: IngestReport,
) -> IngestReport:
    """Write the index, the report and, last, the manifest."""
    ordered = [records[unit.number] for unit in units]
    rows = [row for record in ordered for row in record.rows]
    if not rows:
        problems = [*report.failed, *report.skipped]
        raise SourceError(
            f"no episode of {report.num_sources} sources could be kept; the first: "
            f"{problems[0].source}: {problems[0].reason}"
            if problems
            else "the source holds no episode."
        )
    repeated = [name for name, count in Counter(row["episode"] for row in rows).items() if count > 1]
    if repeated:
        raise DataError(f"the source gives {len(repeated)} episode ids more than once, e.g. {repeated[0]}.")
    info = _dataset_info(config, output_url, units, ordered)
    remove_stale(output_url, len(units))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), buffer)
    files.write_bytes(files.join(output_url, INDEX_FILE), buffer.getvalue())
    report = report.model_copy(
        update={
            "finished": True,
            "revision": info.revision,
            "shard_bytes": tuple(record.shard_bytes for record in ordered),
        }
    )
    report.write(output_url)
    files.write_json(files.join(output_url, INFO_FILE), info.model_dump(mode="json"))
    logger.info(
        "event=ingest-finished url=%s revision=%s episodes=%d frames=%d failed=%d skipped=%d",
        output_url, info.revision, info.num_episodes, info.num_frames, len(report.failed), len(report.skipped),
    )  # fmt: skip
    return report


def _dataset_info(
    config: IngestConfig, output_url: str, units: Sequence[Unit], records: Sequence[UnitRecord]
) -> DatasetInfo:
    rows = [row for record in records for row in record.rows]
    dimensions = {name: _common_dimensions(name, records) for name in ("actions", "proprioception")}
    frame_mean, frame_std = sum((record.frame_sums for record in records), FrameSums()).mean_and_std()
    return DatasetInfo(
        revision=files.digest(*(content for record in records for content in record.content)),
        num_episodes=len(rows),
        num_frames=sum(row["num_frames"] for row in rows),
        num_shards=len(units),
        image_size=config.image_size,
        resize=config.resize,
        fps=tuple(sorted({row["fps"] for row in rows})),
        embodiments=dict(sorted(Counter(row["embodiment"] for row in rows).items())),
        licences=dict(sorted(Counter(row["licence"] for row in rows).items())),
        instructions=len({row["instruction"] for row in rows} - {""}),
        has_actions=all(row["has_actions"] for row in rows),
        action_dims=dimensions["actions"],
        action_names=next((record.action_names for record in records if record.action_names), ()),
        proprioception_dims=dimensions["proprioception"],
        frame_mean=frame_mean,
        frame_std=frame_std,
        actions=_statistics("actions", output_url, units, dimensions),
        proprioception=_statistics("proprioception", output_url, units, dimensions),
        source=config.source.model_dump(mode="json"),
    )


def _common_dimensions(name: str, records: Sequence[UnitRecord]) -> int:
    found = sorted({record.dimensions[name] for record in records if name in record.dimensions})
    if len(found) > 1:
        raise DataError(
            f"the source mixes {name} of {' and '.join(map(str, found))} dimensions. Ingest robots with different "
            "actions as separate datasets."
        )
    return found[0] if found else 0


def _statistics(
    name: str, output_url: str, units: Sequence[Unit], dimensions: dict[str, int]
) -> ActionStatistics | None:
    if not dimensions[name]:
        return None
    parts = [arrays[name] for unit in units if name in (arrays := read_actions(output_url, unit))]
    return action_statistics(parts)


def _silent(done: int, total: int, message: str) -> None:
    pass
