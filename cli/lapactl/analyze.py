"""`lapactl analyze`: what the codes of a latent-action model mean, as pictures, videos and numbers."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lapactl.analyzing import FloorOption, PairsOption, SourceArgument, WindowOption, ask, source_of
from lapactl.options import OutputOption, SetOption
from lapactl.output import Output, OutputFormat

app = typer.Typer(help="Look at what latent actions mean.", no_args_is_help=True, rich_markup_mode=None)

DatasetOption = Annotated[
    list[str],
    typer.Option("--dataset", metavar="DATASET", help="Look at this dataset, not the run's own; repeatable."),
]
FolderOption = Annotated[
    str | None, typer.Option("--folder", metavar="URL", help="Where the analysis goes; beside the run's stages.")
]


@app.command(epilog="Example: lapactl analyze all tabletop")
def all(  # noqa: A001 (the word users type)
    source: SourceArgument,
    datasets: DatasetOption = [],  # noqa: B006 (Typer copies defaults)
    floor: FloorOption = None,
    window: WindowOption = None,
    pairs: PairsOption = 4000,
    folder: FolderOption = None,
    overrides: SetOption = [],  # noqa: B006
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Make every analysis, with the probes, as the report shows them."""
    _analyze(source, {"max_pairs": pairs}, datasets, window, folder, overrides, output, floor=floor)


@app.command(epilog="Example: lapactl analyze atlas work/laq-0123456789")
def atlas(
    source: SourceArgument,
    datasets: DatasetOption = [],  # noqa: B006
    window: WindowOption = None,
    pairs: PairsOption = 4000,
    folder: FolderOption = None,
    overrides: SetOption = [],  # noqa: B006
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Draw one frame under each code, and reconstructions."""
    settings = {"kinds": ["atlas", "reconstruction"], "probes": False, "max_pairs": pairs}
    _analyze(source, settings, datasets, window, folder, overrides, output)


@app.command(epilog="Example: lapactl analyze across work/laq-0123456789 --dataset work/datasets/a --dataset b")
def across(
    source: SourceArgument,
    datasets: DatasetOption = [],  # noqa: B006
    window: WindowOption = None,
    pairs: PairsOption = 4000,
    folder: FolderOption = None,
    overrides: SetOption = [],  # noqa: B006
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Lay frame pairs of the same code from several datasets side by side."""
    settings = {"kinds": ["across"], "probes": False, "max_pairs": pairs}
    _analyze(source, settings, datasets, window, folder, overrides, output)


@app.command(epilog="Example: lapactl analyze scatter tabletop --dimensions dx,dy")
def scatter(
    source: SourceArgument,
    datasets: DatasetOption = [],  # noqa: B006
    dimensions: Annotated[
        str | None, typer.Option("--dimensions", metavar="X,Y", help="Action dimensions to draw; the first two.")
    ] = None,
    position: Annotated[
        int | None, typer.Option("--position", help="Codes at this position; whole latent actions otherwise.")
    ] = None,
    window: WindowOption = None,
    pairs: PairsOption = 4000,
    folder: FolderOption = None,
    overrides: SetOption = [],  # noqa: B006
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Draw where each code moves things: mean motion, spread and count."""
    settings = {
        "kinds": ["scatter"],
        "probes": False,
        "max_pairs": pairs,
        "dimensions": dimensions.split(",") if dimensions else [],
        "position": position,
    }
    _analyze(source, settings, datasets, window, folder, overrides, output)


@app.command(epilog="Example: lapactl analyze instructions tabletop")
def instructions(
    source: SourceArgument,
    datasets: DatasetOption = [],  # noqa: B006
    window: WindowOption = None,
    pairs: PairsOption = 4000,
    folder: FolderOption = None,
    overrides: SetOption = [],  # noqa: B006
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Draw which codes occur for which instruction."""
    settings = {"kinds": ["instructions"], "probes": False, "max_pairs": pairs}
    _analyze(source, settings, datasets, window, folder, overrides, output)


@app.command(epilog="Example: lapactl analyze rollout tabletop --episodes 3")
def rollout(
    source: SourceArgument,
    datasets: DatasetOption = [],  # noqa: B006
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="MODEL", help="A pretrained VLA; the run's own otherwise.")
    ] = None,
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Episodes to imagine.")] = 2,
    window: WindowOption = None,
    folder: FolderOption = None,
    overrides: SetOption = [],  # noqa: B006
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Film what the pretrained policy imagines: it picks codes, the decoder draws, again and again."""
    settings = {"kinds": ["rollout"], "probes": False, "episodes": episodes, "max_pairs": 500}
    _analyze(source, settings, datasets, window, folder, overrides, output, policy=policy)


def _analyze(
    source: str,
    settings: dict[str, Any],
    datasets: Sequence[str],
    window: float | None,
    folder: str | None,
    overrides: Sequence[str],
    output: OutputFormat,
    *,
    policy: str | None = None,
    floor: str | None = None,
) -> None:
    request = {
        "source": source_of(source),
        "settings": settings,
        "datasets": list(datasets),
        "window_seconds": window,
        "work_url": folder,
        "overrides": list(overrides),
        "policy": policy,
        "floor": floor,
    }
    found = ask("analyze", request)
    out = Output(output)
    out.record(found) if out.is_json else _print(out, found)
    for what, why in found["skipped"].items():
        out.warn(f"{what}: {why}")


def _print(out: Output, found: dict[str, Any]) -> None:
    rows = [{"analysis": item["kind"], "shows": item["title"], "file": item["file"]} for item in found["media"]]
    if rows:
        out.table(rows, columns=["analysis", "shows", "file"])
    for role, report in found["probes"].items():
        for message in report["messages"]:
            out.text(f"{role}: {message}")
    out.record({"folder": found["folder"], "numbers": f"{found['folder']}/analysis.json"})
