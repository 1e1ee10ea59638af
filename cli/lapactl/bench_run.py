"""What all studies share: one at a time in a work folder, their jobs made, or only listed."""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lapa import files
from lapa.bench.jobs import Job
from lapa.config.stages import STAGES
from lapa.errors import ConfigError
from lapa.process import available_cores
from lapa.stages.plan import static_key
from lapactl.bench_display import open_bench_display
from lapactl.output import Output
from lapactl.scheduler import Scheduler, failures

LOCK_SECONDS = 60.0
"""Stages of a study that was killed save what they have and end within this time."""


def make_jobs(jobs: Sequence[Job], *, work_url: str, slots: int | None, out: Output) -> dict[str, str]:
    """Make what is missing; the words of each failed job by its run's name. Raises Interrupted when stopped."""
    count = slots or available_cores()
    with held_alone(work_url, out) as lock, open_bench_display(out, slots=count) as display:
        chains = Scheduler(jobs, slots=count, display=display, keep_open=[lock]).run()
    return dict(failures(chains))


def print_jobs(out: Output, jobs: Sequence[Job]) -> None:
    """The runs, and how many stages of each kind they amount to once shared ones are made once."""
    unique = {static_key(job.run, stage): stage for job in jobs for stage in job.stages}
    counts = {stage: sum(found == stage for found in unique.values()) for stage in STAGES}
    if out.is_json:
        out.json({"stages": counts, "runs": [job.run.model_dump(mode="json") for job in jobs]})
        return
    rows = [{"run": job.run.name, "stages": ", ".join(job.stages)} for job in jobs]
    out.table(rows, columns=["run", "stages"])
    words = ", ".join(f"{count} {stage}" for stage, count in counts.items() if count)
    out.text(f"{len(unique)} stages, shared ones counted once: {words}")


@contextmanager
def held_alone(work_url: str, out: Output) -> Iterator[int]:
    """A lock on the work folder. Stage processes inherit it, so that those of a killed study hold it until they end."""
    folder = files.local_path(work_url) or Path("work")
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "bench.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(lock, folder, out)
        yield lock
    finally:
        os.close(lock)


def _take(lock: int, folder: Path, out: Output) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    is_told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"another study works in {folder}, or stages of one that was killed do. Wait for its end, "
                    "or give this one a folder of its own with --work"
                ) from None
            if not is_told:
                out.say(f"waiting for stages that still work in {folder}")
                is_told = True
            time.sleep(0.5)
        else:
            return
