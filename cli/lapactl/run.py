"""`lapactl run`: the whole chain, or one stage, on this machine."""

from typing import Annotated

import typer

from lapactl.options import OutputOption, SetOption, WorkOption
from lapactl.output import Output, OutputFormat

DEFAULT_RUN = "tabletop"


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl run tabletop --set laq.fit.steps=500")(run)


def run(
    target: Annotated[
        str, typer.Argument(metavar="PRESET|RUN.YAML|STAGE", help="What to run: a whole chain, or one stage of it.")
    ] = DEFAULT_RUN,
    config: Annotated[
        str | None, typer.Option("--config", metavar="PRESET|RUN.YAML", help="The run that a STAGE belongs to.")
    ] = None,
    stage: Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="Run this stage alone.")] = None,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    work: WorkOption = None,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes for training stages, under torchrun.")] = 1,
    force: Annotated[
        list[str],
        typer.Option("--force", metavar="STAGE", help="Remove what this stage made, and make it again; repeatable."),
    ] = [],  # noqa: B006
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Print the resolved run and the commands only.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Run the pipeline, or one stage of it.

    A stage whose inputs and settings did not change is skipped. STAGE is one of ingest,
    laq, label, pretrain, finetune, evaluate. Ctrl-C saves; the same command continues.
    """
    from lapactl.chain import run_chain
    from lapactl.selection import check_forced, select
    from lapactl.summary import print_plan, summarize

    selection = select(target, config=config, stage=stage, overrides=overrides, work=work, nproc=nproc)
    check_forced(selection, force)
    out = Output(output)
    if is_dry:
        print_plan(out, selection, nproc=nproc)
        return
    outcomes = run_chain(selection, nproc=nproc, force=force, out=out)
    summarize(out, selection, outcomes)
