"""`lapactl bench`: studies that anyone can repeat."""

from typing import Annotated

import typer

from lapactl.options import OutputOption, SetOption, WorkOption
from lapactl.output import OutputFormat

app = typer.Typer(help="Run studies and write their tables.", no_args_is_help=True, rich_markup_mode=None)

JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Stage processes at a time, one thread each; the cores by default.")
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be made, and start nothing.")]
TrackOption = Annotated[bool, typer.Option("--track", help="Log every stage to MLflow; costs seconds per stage.")]


@app.command(epilog="Example: lapactl bench tabletop --setting in-domain --size tiny")
def tabletop(
    settings: Annotated[
        list[str],
        typer.Option("--setting", help="in-domain, cross-task, cross-environment or distractors; repeatable."),
    ] = [],  # noqa: B006 (Typer copies defaults)
    methods: Annotated[
        list[str], typer.Option("--method", help="One row of the table, e.g. lapa; repeatable, default all.")
    ] = [],  # noqa: B006
    is_ablated: Annotated[
        bool,
        typer.Option(
            "--ablations", help="lapa with one setting changed, in-domain: a row each, in files of their own."
        ),
    ] = False,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="How many; the size's own by default.")] = None,
    size: Annotated[str, typer.Option("--size", help="tiny: plumbing; small: two cores; full: a GPU.")] = "small",
    jobs: JobsOption = None,
    is_validation: Annotated[
        bool, typer.Option("--validation", help="Evaluate on the tables that hyperparameters are chosen on.")
    ] = False,
    overrides: SetOption = [],  # noqa: B006
    work: WorkOption = None,
    results: Annotated[
        str | None, typer.Option("--results", metavar="DIR", help="Where the tables go; WORK/results by default.")
    ] = None,
    is_tracked: TrackOption = False,
    is_table_only: Annotated[
        bool, typer.Option("--table-only", help="Write the table of what is made, and start nothing.")
    ] = False,
    is_dry: DryOption = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Compare LAPA with its baselines on the embedded tabletop.

    Trains what is missing, evaluates, and writes the table as Markdown, JSON and HTML. Killed
    or stopped with Ctrl-C, the same command goes on where it was.
    """
    from lapactl.bench_tabletop import Request, run_tabletop

    request = Request(
        settings=settings, methods=methods, seeds=seeds, size=size, jobs=jobs, is_validation=is_validation,
        overrides=overrides, work=work, results=results, is_tracked=is_tracked, is_table_only=is_table_only,
        is_ablated=is_ablated, is_dry=is_dry,
    )  # fmt: skip
    run_tabletop(request, output)


@app.command(epilog="Example: lapactl bench collapse --runs 10")
def collapse(
    runs: Annotated[int, typer.Option("--runs", min=1, help="Seeds of each recipe.")] = 10,
    jobs: JobsOption = None,
    work: WorkOption = None,
    results: Annotated[
        str | None, typer.Option("--results", metavar="DIR", help="Where the table goes; WORK/results by default.")
    ] = None,
    is_dry: DryOption = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Count collapsed codebooks: the published recipe against ours, over seeds."""
    from lapactl.bench_collapse import run_collapse

    run_collapse(runs=runs, jobs=jobs, work=work, results=results, is_dry=is_dry, output=output)
