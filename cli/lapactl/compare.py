"""`lapactl compare`: runs side by side."""

import webbrowser
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from lapactl.options import WorkOption
from lapactl.output import Output, OutputFormat


class ComparisonFormat(StrEnum):
    """How the comparison is printed on stdout; the page is written in any case."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl compare work/runs/tabletop.yaml work/runs/tabletop-2.yaml --open")(compare)


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN...", help="Presets, run YAML files or work folders; two or more.")
    ],
    work: WorkOption = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    output: Annotated[
        ComparisonFormat, typer.Option("--output", help="Print tables, one JSON value, or the page itself.")
    ] = ComparisonFormat.TEXT,
) -> None:
    """Lay runs side by side.

    Settings that differ, success with intervals, wins and losses on the same initial
    states, codebook health, probes and curves. Writes an HTML page beside the first run.
    """
    from lapa.errors import ConfigError
    from lapactl.library import ask_library
    from lapactl.report import open_page, resolve

    if len(runs) < 2:
        raise ConfigError(f"one run ({runs[0]}) has nothing to be compared with; name another one")
    (first, settings), *others = [resolve(run, work) for run in runs]
    arguments = [part for source, changes in others for part in (source, *changes)]
    compared = ask_library(["compare", first, *arguments, *(f"--set={item}" for item in settings)])
    out = Output(OutputFormat.JSON if output is ComparisonFormat.JSON else OutputFormat.TEXT)
    _print(out, compared, output)
    if is_opened:
        open_page(out, compared["page"], webbrowser.open)


def _print(out: Output, compared: Mapping[str, Any], output: ComparisonFormat) -> None:
    match output:
        case ComparisonFormat.JSON:
            out.json(compared)
        case ComparisonFormat.HTML:
            from lapa import files

            out.text(files.read_bytes(compared["page"]).decode())
        case ComparisonFormat.TEXT:
            _tables(out, compared)
            out.say(f"page: {compared['page']}")


def _tables(out: Output, compared: Mapping[str, Any]) -> None:
    names = [run["name"] for run in compared["runs"]]
    out.table([_run_row(run) for run in compared["runs"]], columns=("run", "verdict", "success", "episodes", "finding"))
    out.table([_paired_row(pair) for pair in compared["paired"]], columns=("pair", "won", "alike", "lost", "p", "note"))
    settings = [{"setting": key, **values} for key, values in compared["settings"].items()]
    out.table(settings, columns=("setting", *names))
    out.table([{"probe": name, **values} for name, values in compared["probes"].items()], columns=("probe", *names))
    rows = [
        {"metric": f"{stage} {metric}", **values}
        for stage, table in compared["stages"].items()
        if not table["shared"]
        for metric, values in table["metrics"].items()
    ]
    out.table(rows, columns=("metric", *names))


def _run_row(run: Mapping[str, Any]) -> dict[str, Any]:
    success = run["success"]
    told = success and f"{success['rate']:.1%} [{success['low']:.1%}, {success['high']:.1%}]"
    return {**run, "run": run["name"], "success": told, "finding": run["headline"]}


def _paired_row(pair: Mapping[str, Any]) -> dict[str, Any]:
    row = {"pair": f"{pair['first']} against {pair['second']}", "note": pair.get("why_not")}
    if "why_not" in pair:
        return row
    return {**row, "won": pair["wins"], "alike": pair["ties"], "lost": pair["losses"], "p": f"{pair['p_value']:.2g}"}
