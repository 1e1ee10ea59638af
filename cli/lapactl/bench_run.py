"""What all studies share: one at a time in a work folder, their jobs made, or only listed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lapa import files
from lapa.bench.jobs import Job
from lapa.config.stages import STAGES
from lapa.process import available_cores
from lapa.stages.plan import static_key
from lapactl.alone import held_alone
from lapactl.bench_display import open_bench_display
from lapactl.output import Output
from lapactl.scheduler import Scheduler, failures


def make_jobs(jobs: Sequence[Job], *, work_url: str, slots: int | None, out: Output) -> dict[str, str]:
    """Make what is missing; the words of each failed job by its run's name. Raises Interrupted when stopped."""
    count = slots or available_cores()
    with one_study(work_url, out) as lock, open_bench_display(out, slots=count) as display:
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
def one_study(work_url: str, out: Output) -> Iterator[int]:
    """A lock on the work folder. Stage processes inherit it, so that those of a killed study hold it until they end."""
    folder = files.local_path(work_url) or Path("work")
    busy = (
        f"another study works in {folder}, or stages of one that was killed do. Wait for its end, or give this one a "
        "folder of its own with --work"
    )
    others = f"stages that still work in {folder}"
    with held_alone(folder / "bench.lock", others=others, busy=busy, tell=out.say) as lock:
        yield lock
