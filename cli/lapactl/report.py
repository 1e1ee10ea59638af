"""`lapactl report`: a run as one page for people."""

import webbrowser
from collections.abc import Callable
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
    is_analysed: Annotated[
        bool,
        typer.Option("--analysis/--no-analysis", help="Probe the codes and draw what they mean, unless that is done."),
    ] = True,
    is_opened: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write the report of a run.

    A verdict in words, success with intervals, codebook health, what the codes mean,
    curves, and what was made from what: one HTML page that needs no other file.
    """
    from lapa.config.load import load_run
    from lapactl.library import ask_library

    source, settings = resolve(run, work)
    settings = [*overrides, *settings]
    load_run(source, settings)
    flags = [] if is_analysed else ["no-analysis"]
    written = ask_library(["report", source, *flags, *(f"--set={item}" for item in settings)], timeout_seconds=3600)
    out = Output(output)
    out.record(written)
    if is_opened:
        open_page(out, written["report"], webbrowser.open)


def open_page(out: Output, url: str, open_in_browser: Callable[[str], object]) -> None:
    """Open a page of this machine; say what to do about another one."""
    from lapa import files

    if (path := files.local_path(url)) is not None:
        open_in_browser(path.absolute().as_uri())
    else:
        out.hint(f"--open opens files of this machine only; copy {url} here and open the copy")


def resolve(run: str, work: str | None) -> tuple[str, list[str]]:
    """A run's source, and the settings that say where it lies: a work folder is where it is now."""
    from lapa import files
    from lapa.config.load import load_run

    folder = Path(run)
    if not folder.is_dir():
        return run, [f"work_url={work}"] if work else []
    source = str(run_file_in(folder))
    if work is None and files.local_path(load_run(source).work_url) is not None:
        work = run
    return source, [f"work_url={work}"] if work else []


def run_file_in(folder: Path) -> Path:
    """The newest resolved run in a work folder. Raises ConfigError where there is none."""
    from lapa.errors import ConfigError

    runs = sorted((folder / "runs").glob("*.yaml"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise ConfigError(f"{folder} holds no runs/*.yaml: nothing was run there. Name a preset or a run's YAML file.")
    return runs[-1]
