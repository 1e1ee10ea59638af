"""What `lapactl probe` and `lapactl analyze` have in common: whom they ask, and how a source is named."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lapactl.library import ask_library
from lapactl.report import run_file_in

LONGEST_SECONDS = 4 * 3600.0
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|FOLDER", help="A preset, a run's YAML, a work folder, or the folder of a stage or a model."
    ),
]
WindowOption = Annotated[
    float | None,
    typer.Option("--window", min=0.0, help="Seconds between both frames; known from the run where there is one."),
]
FloorOption = Annotated[
    str | None,
    typer.Option("--floor", metavar="MODEL", help="A latent-action model trained with its codes withheld."),
]
PairsOption = Annotated[int, typer.Option("--pairs", min=20, help="Frame pairs of each dataset to look at.")]


def source_of(named: str) -> str:
    """A work folder stands for the newest run in it."""
    return str(run_file_in(Path(named))) if (Path(named) / "runs").is_dir() else named


def ask(program: str, request: Mapping[str, Any]) -> Any:
    """The answer of `python -m lapa PROGRAM`; what the request leaves open is left to the library."""
    stated = {name: value for name, value in request.items() if value is not None}
    return ask_library([program, "-", json.dumps(stated)], timeout_seconds=LONGEST_SECONDS)
