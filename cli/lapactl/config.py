"""`lapactl config`: what a run would be, before anything runs."""

from typing import Annotated, Literal

import typer

from lapactl.options import OutputOption, RunArgument, SetOption
from lapactl.output import Output, OutputFormat

app = typer.Typer(help="Show presets, resolved runs and their schema.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: lapactl config show tabletop --set laq.fit.steps=500 > run.yaml")
def show(
    run: RunArgument,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    output: Annotated[
        Literal["yaml", "json", "text"], typer.Option("--output", help="Print YAML (text means the same) or JSON.")
    ] = "yaml",
    has_origin: Annotated[
        bool, typer.Option("--origin", help="Say where each setting is from, as `lapactl submit` sees it.")
    ] = False,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="NAME", help="Cluster profile, with --origin.")
    ] = None,
) -> None:
    """Print a run with every setting resolved.

    With --origin: every setting of the run and of the cluster profile, and which of --set,
    environment, project file, profile, preset or default it is from.
    """
    if has_origin:
        from lapactl.submit_origin import print_origins

        print_origins(Output(OutputFormat.JSON if output == "json" else OutputFormat.TEXT), run, cluster, overrides)
        return
    from lapa.config.load import dump_run, load_run

    resolved = load_run(run, overrides)
    if output == "json":
        Output(OutputFormat.JSON).json(resolved.model_dump(mode="json"))
    else:
        Output(OutputFormat.TEXT).text(dump_run(resolved))


@app.command(epilog="Example: lapactl config schema > run.schema.json")
def schema(output: OutputOption = OutputFormat.JSON) -> None:
    """Print the JSON schema of a run.

    It describes every setting; editors complete and check a run's YAML with it.
    """
    from lapa.config.load import run_schema

    Output(output).json(run_schema())


@app.command(epilog="Example: lapactl config presets --output json")
def presets(output: OutputOption = OutputFormat.TEXT) -> None:
    """List the presets with what each is for."""
    from lapa.config.presets import PRESETS

    rows = [{"preset": name, "for": _first_line(make.__doc__)} for name, make in PRESETS.items()]
    out = Output(output)
    out.rows(rows, columns=["preset", "for"])
    out.hint("see one with `lapactl config show PRESET`, run it with `lapactl run PRESET`")


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]
