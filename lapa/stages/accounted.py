"""The profiler switch of a stage whose work is done by processes of its own: `ingest`, `evaluate`. Needs no torch.

Beside `lapa.stages.profiled`, which looks at some updates of one loop, this counts all of the work, for counting costs
next to nothing; `profile.steps` is how many jobs of a kind the trace shows part by part, of each process.
"""

import gzip
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapa import files, timesheet
from lapa.stages.context import Stage
from lapa.timesheet import Timesheets

logger = logging.getLogger(__name__)

PROFILE_FOLDER = "profile"
TRACE = "trace.json.gz"
WAITING = "waiting"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Seconds of all processes together."""

    parts: Mapping[str, float]
    """The largest first; with what workers waited."""
    cpu_seconds: float
    limits: Mapping[str, str]
    """What each part is limited by; a part that is not named is a limit of its own."""
    jobs: int
    processes: int

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def by_limit(self) -> dict[str, float]:
        """Shares. The known limits are there with nothing, too."""
        sums = dict.fromkeys([*self.limits.values(), WAITING], 0.0)
        for name, seconds in self.parts.items():
            limit = self.limits.get(name, name)
            sums[limit] = sums.get(limit, 0.0) + seconds / self.seconds
        return sums

    def line(self) -> str:
        """The answer, in one line."""
        limits = self.by_limit
        limit = max(limits, key=lambda name: limits[name])
        worked = self.seconds - self.parts.get(WAITING, 0.0)
        many = f"{self.processes} process" + ("es" if self.processes > 1 else "")
        return (
            f"limited by {limit} ({limits[limit]:.0%} of {self.seconds:.3g} s of {many}, in {self.jobs} jobs): "
            f"{_shares(limits)}; in the jobs: "
            f"{_shares({name: seconds / self.seconds for name, seconds in self.parts.items() if name != WAITING})}; "
            f"on a core {self.cpu_seconds / worked:.0%} of the time at work"
        )

    def metrics(self) -> dict[str, float]:
        return {f"profile/{name.replace(' ', '_')}": seconds / self.seconds for name, seconds in self.parts.items()}


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


@contextmanager
def accounted(stage: Stage, limits: Mapping[str, str]) -> Iterator[None]:
    """Where the run asks for a profile, what is done inside becomes a remark of the stage's result, and a trace.

    `limits` says what limits the run where a part takes longest.
    """
    if not stage.run.profile.steps:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lapa-profile-") as scratch:
        sheets, kept = Path(scratch, "sheets"), Path(scratch, "kept")
        sheets.mkdir()
        kept.mkdir()
        with timesheet.kept(sheets, traced=stage.run.profile.steps):
            yield
        found = timesheet.handed_in(sheets)
        if not found.jobs:
            stage.remarks.append("Nothing was profiled: there was nothing left to do.")
            return
        account = account_of(found, limits, parent=os.getpid())
        (kept / TRACE).write_bytes(gzip.compress(json.dumps(trace_of(found)).encode(), mtime=0))
        url = files.join(stage.folder, PROFILE_FOLDER)
        files.upload(kept, url)
    logger.info("event=profile %s", account.line())
    stage.tracker.log_metrics(account.metrics(), 0)
    stage.remarks.append(f"Profile: {account.line()}. Trace, for Perfetto or chrome://tracing: {url}")


def account_of(found: Timesheets, limits: Mapping[str, str], *, parent: int) -> Account:
    parts: dict[str, float] = {}
    for job in found.jobs:
        for name, seconds in job.seconds.items():
            parts[name] = parts.get(name, 0.0) + seconds
    ordered = dict(sorted(parts.items(), key=lambda item: -item[1]))
    return Account(
        parts=ordered | {WAITING: found.waited(parent=parent)},
        cpu_seconds=sum(sum(job.cpu_seconds.values()) for job in found.jobs),
        limits=limits,
        jobs=len(found.jobs),
        processes=len({job.process for job in found.jobs}),
    )


def trace_of(found: Timesheets) -> dict[str, Any]:
    """Jobs with their parts, as Chrome and Perfetto read them; microseconds from the first job on."""
    begin = min(job.start for job in found.jobs)

    def event(name: str, process: int, start: float, end: float) -> dict[str, Any]:
        where = {"pid": process, "tid": process}
        return {"ph": "X", "name": f"lapa: {name}", "ts": 1e6 * (start - begin), "dur": 1e6 * (end - start), **where}

    events = []
    for job in found.jobs:
        events.append(event(job.label, job.process, job.start, job.end))
        events += [event(name, job.process, start, end) for name, start, end in job.spans]
    return {"traceEvents": events, "displayTimeUnit": "ms"}
