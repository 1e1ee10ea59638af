"""Options that several commands share, so that one name means one thing."""

from typing import Annotated

import typer

from lapactl.output import OutputFormat

OutputOption = Annotated[OutputFormat, typer.Option("--output", help="Print data as text or as one JSON value.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. laq.fit.steps=500; repeatable."),
]
WorkOption = Annotated[
    str | None, typer.Option("--work", metavar="URL", help="Folder of everything the run makes; sets work_url.")
]
RunArgument = Annotated[str, typer.Argument(metavar="PRESET|RUN.YAML", help="Name of a preset, or a run's YAML file.")]
