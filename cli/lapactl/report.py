"""`lapactl report`: a run as one page for people."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from lapactl.options import OutputOption, SetOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.run import DEFAULT_RUN


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl report tabletop --open")(report)


def report(
    run: Annotated[
        str, typer.Argument(metavar="PRESET|RUN.YAML|FOLDER", help="A run, or the work folder it was made in.")
    ] = DEFAULT_RUN,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    work: WorkOption = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write the report of a run.

    Curves, pictures, success numbers, and what was made from what.
    """
    from lapa.config.load import load_run
    from lapactl.library import ask_library

    source = str(run_file_in(Path(run))) if Path(run).is_dir() else run
    settings = [*overrides, *([f"work_url={work}"] if work else [])]
    load_run(source, settings)
    written = ask_library(["report", source, *(f"--set={item}" for item in settings)])
    out = Output(output)
    out.record(written)
    if is_opened:
        _open(out, written["report"])


def _open(out: Output, url: str) -> None:
    from lapa import files

    if (path := files.local_path(url)) is not None:
        webbrowser.open(path.absolute().as_uri())
    else:
        out.hint(f"--open opens files of this machine only; copy {url} here and open the copy")


def run_file_in(folder: Path) -> Path:
    """The newest resolved run in a work folder. Raises ConfigError where there is none."""
    from lapa.errors import ConfigError

    runs = sorted((folder / "runs").glob("*.yaml"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise ConfigError(f"{folder} holds no runs/*.yaml: nothing was run there. Name a preset or a run's YAML file.")
    return runs[-1]
