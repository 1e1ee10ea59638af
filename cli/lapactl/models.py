"""`lapactl models`: what was registered, and what a model is made of."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from lapactl.options import OutputOption, RunArgument, SetOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.run import DEFAULT_RUN

app = typer.Typer(help="List registered models and describe them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list", epilog="Example: lapactl models list --output json")
def list_models(
    name: Annotated[str | None, typer.Argument(metavar="MODEL", help="One registered model; all by default.")] = None,
    config: Annotated[
        str, typer.Option("--config", metavar="PRESET|RUN.YAML", help="The run whose tracking store is read.")
    ] = DEFAULT_RUN,
    work: WorkOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """List registered models, newest first."""
    from lapa.config.load import load_run
    from lapa.tracking.registry import Registry

    run = load_run(config, [f"work_url={work}"] if work else [])
    versions = Registry.open(run.tracking, store=run.work_url, wait_seconds=10).list_models(name)
    rows = [
        {
            "model": version.name,
            "version": version.version,
            "aliases": list(version.aliases),
            "made": datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(timespec="seconds"),
            "run": version.tags.get("lapa.run", ""),
            "digest": version.digest,
            "source": version.source,
            "inputs": version.inputs,
        }
        for version in versions
    ]
    out = Output(output)
    out.rows(rows, columns=["model", "version", "aliases", "made", "run", "source"])
    if not rows:
        out.hint(f"nothing is registered in {run.work_url} yet; `lapactl run` registers what it trains")


@app.command(epilog="Example: lapactl models describe lapa-paper --stage laq")
def describe(
    run: RunArgument,
    stage: Annotated[
        Literal["laq", "pretrain", "finetune"], typer.Option("--stage", help="The stage that trains the model.")
    ] = "laq",
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show a model's layers, size and FLOPs.

    The model of the run's stage is built, not trained.
    """
    from lapa.config.load import load_run
    from lapactl.library import ask_library

    load_run(run, overrides)  # a mistake in the settings is told at once, not after torch has loaded
    described = ask_library(["describe", run, stage, *(f"--set={item}" for item in overrides)])
    out = Output(output)
    if out.is_json:
        out.json(described)
        return
    out.table(described["layers"], columns=["name", "kind", "parameters"])
    out.record({name: value for name, value in described.items() if name != "layers"})
