"""`lapactl data`: from files of any source to a dataset, and what is inside one."""

from typing import Annotated, Literal

import typer

from lapactl import data_mix, data_play, data_show
from lapactl.options import OutputOption, SetOption
from lapactl.output import Output, OutputFormat

app = typer.Typer(help="Make datasets and look into them.", no_args_is_help=True, rich_markup_mode=None)
data_mix.register(app)
data_play.register(app)


@app.command(epilog="Example: lapactl data ingest videos/ work/datasets/mine --set image_size=128")
def ingest(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Folder or URL of files in any format that is read.")],
    target: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder or URL of the dataset to write.")],
    kind: Annotated[
        Literal[
            "auto",
            "videos",
            "lerobot",
            "rlds",
            "webdataset",
            "hdf5",
            "lapa-json",
            "something-something",
            "narrated-videos",
        ],
        typer.Option("--kind", help="Source format; auto looks."),
    ] = "auto",
    fps: Annotated[
        float | None, typer.Option("--fps", help="Frames per second: of an RLDS source; to thin others to.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
    is_replaced: Annotated[
        bool, typer.Option("--replace", help="Make a finished dataset anew where source or settings have changed.")
    ] = False,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Turn a source into a dataset.

    Continues where an earlier attempt stopped. --set takes the settings of a run's `videos`:
    image_size=128, source.instructions.kind=file-name.
    """
    from lapa.data.ingest import ingest as ingest_source
    from lapactl.ingesting import ingest_settings, refuse_to_overwrite, remark_on
    from lapactl.progress import open_display

    settings = ingest_settings(source, kind=kind, fps=fps, workers=workers, overrides=overrides)
    if not is_replaced:
        refuse_to_overwrite(settings, target)
    out = Output(output)
    with open_display(out, "ingest") as display:

        def progress(done: int, total: int, message: str) -> None:
            event = {"phase": settings.source.kind, "step": done, "steps": total, "unit": "sources", "message": message}
            display.update(event)

        report = ingest_source(settings, target, progress=progress)
    if (remark := remark_on(settings)) is not None:
        out.warn(remark)
    for problem in [*report.failed, *report.skipped]:
        out.warn(f"left out {problem.source}: {problem.reason}")
    if (unnamed := report.num_failed + report.num_skipped - len(report.failed) - len(report.skipped)) > 0:
        out.warn(f"left out {unnamed} more: {target}/_units/*.json names all")
    numbers = report.model_dump(mode="json", exclude={"failed", "skipped", "quality", "num_failed", "num_skipped"})
    counts = {kind: found.model_dump(exclude={"examples"}) for kind, found in report.quality.items()}
    left_out = {"failed": report.num_failed, "skipped": report.num_skipped}
    out.record({"dataset": target, **numbers, **left_out, **({"quality": counts} if out.is_json else {})})
    for name, number in counts.items():
        out.warn(f"{name}: {', '.join(f'{count} {done}' for done, count in number.items() if count)}")
    out.hint(f"see what is inside with `lapactl data show {target}`")


@app.command(epilog="Example: lapactl data show work/datasets/mine --output json")
def show(
    url: Annotated[str, typer.Argument(metavar="DATASET", help="Folder or URL of a dataset.")],
    episodes: Annotated[int, typer.Option("--episodes", min=0, help="Also list this many episodes.")] = 0,
    html: Annotated[
        bool, typer.Option("--html", help="Write one page instead: pictures, histograms, licences, quality.")
    ] = False,
    to: Annotated[
        str | None, typer.Option("--to", metavar="FILE", help="Where --html writes the page; NAME.html by default.")
    ] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show what a dataset holds, here or as a page.

    --html writes to the current folder, by the dataset's name: mine.html.
    """
    from lapa.data.dataset import Dataset
    from lapa.data.describe import describe_dataset
    from lapa.errors import ConfigError

    if to is not None and not html:
        raise ConfigError("--to is where --html writes the page: give both, or none")
    if episodes and html:
        raise ConfigError("--episodes lists them here, and --html writes a page instead: give one of them")
    dataset = Dataset.open(url)
    out = Output(output)
    if html:
        data_show.write_page(out, dataset, to)
        return
    rows = dataset.index.slice(0, episodes).to_pylist()
    described = describe_dataset(dataset)
    if out.is_json:
        out.json({**described, "listed_episodes": rows} if episodes else described)
        return
    tables = ("instructions", "actions", "proprioception")
    out.record({name: value for name, value in described.items() if name not in tables})
    if described["instructions"]:
        counted = [{"instruction": text or "(none)", "episodes": n} for text, n in described["instructions"].items()]
        out.table(counted, columns=["episodes", "instruction"])
    for title, dimensions in (("action", described["actions"]), ("proprioception", described["proprioception"])):
        if dimensions:
            named = [{title: dimension["name"], **dimension} for dimension in dimensions]
            meaning = ["meaning"] if any(row.get("meaning") for row in named) else []
            out.table(named, columns=[title, "mean", "std", "min", "q01", "q99", "max", *meaning])
    if rows:
        out.table(rows, columns=["episode", "num_frames", "fps", "instruction", "embodiment", "licence"])


@app.command(epilog="Example: lapactl data convert work/datasets/mine exported/ --to lerobot-v3")
def convert(
    source: Annotated[str, typer.Argument(metavar="RUN_OR_URL", help="URL of a dataset, or a run whose data it is.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Empty folder or URL to write to.")],
    to: Annotated[Literal["lerobot-v3", "webdataset"], typer.Option("--to", help="Format to write.")],
    role: Annotated[
        Literal["videos", "robot"], typer.Option("--role", help="Of a run: which of its datasets.")
    ] = "robot",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Write a dataset in a format of others. Videos are copied as they are stored."""
    from dataclasses import asdict

    from lapa.data.convert import convert as convert_dataset
    from lapa.data.dataset import Dataset
    from lapactl.ingesting import stored_dataset
    from lapactl.progress import open_display

    dataset = Dataset.open(stored_dataset(source, role))
    out = Output(output)
    with open_display(out, "convert") as display:

        def progress(done: int, total: int, message: str) -> None:
            display.update({"phase": to, "step": done, "steps": total, "unit": "episodes", "message": message})

        converted = convert_dataset(dataset, to, target, progress=progress)
    for lost in converted.not_kept:
        out.warn(f"{to} does not keep {lost}")
    out.record({name: value for name, value in asdict(converted).items() if name != "not_kept"})
