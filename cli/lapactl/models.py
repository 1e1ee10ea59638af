"""`lapactl models`: what was registered, what it was made from, and what a model is made of."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from lapactl import models_show
from lapactl.options import OutputOption, RunArgument, SetOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.registry import DEFAULT_CONFIG, ConfigOption, TrackingOption, open_registry

app = typer.Typer(help="List registered models and describe them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list", epilog="Example: lapactl models list --output json")
def list_models(
    name: Annotated[str | None, typer.Argument(metavar="MODEL", help="One registered model; all by default.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """List registered models, newest first."""
    registry = open_registry(config, work, tracking)
    versions = registry.list_models(name)
    rows = [
        {
            "model": version.name,
            "version": version.version,
            "aliases": list(version.aliases),
            "made": datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(timespec="seconds"),
            "run": version.tags.get("lapa.run", ""),
            "digest": version.digest,
            "url": version.url,
            "forced": any(tag.startswith("lapa.forced.") for tag in version.tags),
            "inputs": version.inputs,
        }
        for version in versions
    ]
    out = Output(output)
    out.rows(rows, columns=["model", "version", "aliases", "made", "run", "url"])
    if not rows:
        out.hint(f"nothing is registered in {registry.uri} yet; `lapactl run` registers what it trains")


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


models_show.register(app)
