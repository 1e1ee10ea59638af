"""`lapactl doctor`: can this machine do what a run asks?"""

from typing import Annotated

import typer

from lapactl.options import OutputOption, SetOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.run import DEFAULT_RUN


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl doctor lapa --work s3://bucket/work")(doctor)


def doctor(
    run: Annotated[str, typer.Argument(metavar="PRESET|RUN.YAML", help="The run to prepare for.")] = DEFAULT_RUN,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    work: WorkOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Check what this machine can run.

    Versions, devices, memory, disk, object store and tracking; each problem comes with its remedy.
    """
    from lapa.config.load import load_run
    from lapactl.checks import check_everything

    resolved = load_run(run, [*overrides, *([f"work_url={work}"] if work else [])])
    checks = check_everything(resolved)
    out = Output(output)
    out.rows([check._asdict() for check in checks], columns=["check", "status", "found"])
    for check in checks:
        if check.remedy:
            out.hint(f"{check.check}: {check.remedy}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)
