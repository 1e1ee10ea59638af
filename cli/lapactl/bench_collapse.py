"""What `lapactl bench collapse` does: the same codebooks over many seeds, and how many of them collapsed."""

from collections.abc import Sequence
from pathlib import Path

from lapa.bench.collapse import collapse_markdown, collapse_runs, collapse_table
from lapa.bench.jobs import Job
from lapa.stages.plan import finished
from lapactl.bench_run import make_jobs, print_jobs
from lapactl.errors import StageFailed
from lapactl.output import Output, OutputFormat


def run_collapse(
    *, runs: int, jobs: int | None, work: str | None, results: str | None, is_dry: bool, output: OutputFormat
) -> None:
    """Make what is missing and write the table. Raises StageFailed, after the table, when a run failed."""
    out = Output(output)
    work_url = work or "work/bench"
    wanted = [Job(run=run, stages=("ingest", "laq")) for run in collapse_runs(runs, work_url=work_url)]
    if is_dry:
        print_jobs(out, wanted)
        return
    failed = make_jobs(wanted, work_url=work_url, slots=jobs, out=out)
    _write(wanted, failed, Path(results or f"{work_url}/results"), out)
    if failed:
        raise StageFailed(f"{len(failed)} of {len(wanted)} runs failed; they are named above", StageFailed.exit_code)


def _write(wanted: Sequence[Job], failed: dict[str, str], folder: Path, out: Output) -> None:
    made = [result for job in wanted if job.run.name not in failed and (result := finished(job.run, "laq"))]
    rows = collapse_table(made)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "collapse.md"
    path.write_text(collapse_markdown(rows), encoding="utf-8")
    out.rows(
        [row.model_dump(mode="json") for row in rows],
        columns=["arm", "collapsed", "runs", "perplexity", "joint_perplexity", "dead_share", "r2"],
    )
    out.say(f"written: {path}")
