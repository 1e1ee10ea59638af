"""From a source to a dataset: plan units, make the missing ones in parallel, then index them.

Running it again continues after a kill, redoes what changed in the source, and does nothing when nothing did. Several
machines that run it at once share the units (`ingest_peers.py`).
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait

from lapa import files, timesheet
from lapa.config.data import IngestConfig
from lapa.data.conventions import declared_source, found_conventions
from lapa.data.dataset import INFO_FILE, stored_shards
from lapa.data.ingest_finish import finish
from lapa.data.ingest_peers import ALONE, Claims, Peers
from lapa.data.ingest_plan import Plan, Unit
from lapa.data.ingest_records import UnitRecord, is_made
from lapa.data.ingest_report import IngestReport
from lapa.data.ingest_tally import Tally
from lapa.data.ingest_unit import run_unit
from lapa.data.pool import worker_pool
from lapa.data.readers.base import SourceReader
from lapa.data.readers.build import build_reader
from lapa.process import available_cores

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Sources done, sources in all, and a word on what is happening."""
Found = Callable[[int, int], None]
"""Shards that an earlier attempt left, of how many; told only where there are any."""


def ingest(
    config: IngestConfig,
    output_url: str,
    *,
    progress: Progress | None = None,
    found: Found | None = None,
    peers: Peers = ALONE,
) -> IngestReport:
    """Make the dataset at `output_url` what the source and the settings say; of several `peers`, the first one does.

    Raises SourceError for an unusable source, TooManyFailures above `max_failed_share`, and ConfigError for a frame
    rate that actions forbid.
    """
    config = declared_source(config)
    tell = progress or _silent
    tell(0, 0, f"listing {config.source.kind}")
    with timesheet.part("list"):
        reader = build_reader(config.source)
        plan = Plan(reader.items(), config)
    if (report := _finished_report(output_url, plan.fingerprint)) is not None:
        logger.info("event=ingest-unchanged url=%s revision=%s", output_url, report.revision)
        tell(plan.num_items, plan.num_items, "unchanged")
        report.check_failures(config, output_url)
        return report
    # From here on the folder is being changed: without its manifest nobody takes it for complete.
    files.remove(files.join(output_url, INFO_FILE))
    _make_units(reader, plan, config, output_url, tell, peers, found)
    with timesheet.part("index"):
        return finish(plan, config, output_url, found_conventions(config, reader))


def help_ingest(config: IngestConfig, output_url: str, *, peers: Peers) -> None:
    """Make units of a dataset that another machine finishes; returns as soon as none is left to begin."""
    config = declared_source(config)
    reader = build_reader(config.source)
    plan = Plan(reader.items(), config)
    if _finished_report(output_url, plan.fingerprint) is None:
        _make_units(reader, plan, config, output_url, _silent, peers)


def is_current(config: IngestConfig, output_url: str) -> bool:
    """Whether the dataset at `output_url` is what `ingest` would make now: only lists the source."""
    return _finished_report(output_url, _planned(config).fingerprint) is not None


def keeps_shards(config: IngestConfig, output_url: str) -> bool:
    """Whether `ingest` would leave every shard at `output_url` as it is, and make no other: only lists the source."""
    plan = _planned(config)
    return len(stored_shards(output_url)) == len(plan) and not _missing(range(len(plan)), plan, output_url)


def _planned(config: IngestConfig) -> Plan:
    config = declared_source(config)
    return Plan(build_reader(config.source).items(), config)


def _finished_report(output_url: str, fingerprint: str) -> IngestReport | None:
    report = IngestReport.of_whole(output_url)
    return report if report is not None and report.fingerprint == fingerprint else None


def _make_units(
    reader: SourceReader,
    plan: Plan,
    config: IngestConfig,
    output_url: str,
    tell: Progress,
    peers: Peers,
    found: Found | None = None,
) -> None:
    """Returns when every unit is there, or, for a peer that does not finish, when none is left to begin.

    What is there already is kept. Stops early once too much has failed.
    """
    missing = _missing(range(len(plan)), plan, output_url)
    done, kept = plan.num_items - sum(map(plan.num_items_of, missing)), len(plan) - len(missing)
    logger.info("event=ingest-started url=%s units=%d units_kept=%d", output_url, len(plan), kept)
    if kept and found is not None:
        found(kept, len(plan))
    tally = Tally()
    with Claims(output_url, peers) as claims:
        while missing:
            for unit, record in _run(reader, plan, claims.taken(missing), config, output_url):
                claims.give_back(unit.number)
                done += len(unit.items)
                tell(
                    done,
                    plan.num_items,
                    f"shard {unit.number}: {len(record.rows)} episodes, {len(record.failed)} failed",
                )
                tally.add(record)
                if plan.is_declared and record.failed:
                    so_far = tally.report(plan)
                    so_far.write(output_url)
                    so_far.check_failures(config, output_url)
            if peers.count == 1 or not (missing := _missing(missing, plan, output_url)) or not peers.finishes:
                return
            tell(plan.num_items - sum(map(plan.num_items_of, missing)), plan.num_items, "waiting for the other nodes")
            with timesheet.part("other nodes"):
                time.sleep(peers.poll_seconds)


def _missing(numbers: Iterable[int], plan: Plan, output_url: str) -> list[int]:
    stored = stored_shards(output_url)
    return [number for number in numbers if not is_made(output_url, number, plan.fingerprints[number], stored)]


def _run(
    reader: SourceReader, plan: Plan, numbers: Iterator[int], config: IngestConfig, output_url: str
) -> Iterator[tuple[Unit, UnitRecord]]:
    """Units with their records, as they become ready. A number is taken when a process is free for its unit."""
    workers = min(config.workers or available_cores(), len(plan))
    if workers <= 1:
        for number in numbers:
            unit = plan[number]
            yield unit, run_unit(reader, unit, config, output_url)
        return
    remedy = "Run ingest again with a smaller `workers`; finished shards are kept."
    arguments = (reader, config, output_url)
    with worker_pool(workers, work="ingest", remedy=remedy, start=_start_worker, arguments=arguments) as pool:
        running: dict[Future[UnitRecord], Unit] = {}
        while True:
            for number in itertools.islice(numbers, workers - len(running)):
                unit = plan[number]
                running[pool.submit(_run_in_worker, unit)] = unit
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


_work: tuple[SourceReader, IngestConfig, str] | None = None
"""What every unit of this worker process shares, sent once instead of with each unit."""


def _start_worker(reader: SourceReader, config: IngestConfig, output_url: str) -> None:
    global _work
    _work = (reader, config, output_url)


def _run_in_worker(unit: Unit) -> UnitRecord:
    assert _work is not None, "the pool starts its workers with _start_worker"
    reader, config, output_url = _work
    return run_unit(reader, unit, config, output_url)


def _silent(done: int, total: int, message: str) -> None:
    pass
