"""`lapactl deploy`: policy servers that run what the registry names, and go back to what ran before."""

from typing import Annotated

import typer

from lapactl.deploy_options import DEFAULT_COMMAND, DeployGroup
from lapactl.options import OutputOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.registry import DEFAULT_CONFIG, ConfigOption, TrackingOption, open_registry

app = typer.Typer(
    cls=DeployGroup,
    help="Run registered policies for robots. `deploy NAME@production` is short for `deploy start NAME@production`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(DEFAULT_COMMAND, epilog="Example: lapactl deploy start lapa-policy@production --target local")
def start(
    model: Annotated[
        str, typer.Argument(metavar="NAME[@ALIAS|/VERSION]", help="A registered policy; its production by default.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Start a version beside what runs, and switch to it when it is ready."""
    from lapa.tracking.references import resolve

    version = resolve(open_registry(config, work, tracking), model, default="production")
    Output(output).record({"model": version.name, "version": version.version, "digest": version.digest})
