"""`lapactl data mix`: what training will see of each dataset of a mixture."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from lapa.errors import ConfigError
from lapactl.options import OutputOption, SetOption
from lapactl.output import Output, OutputFormat

_OF_A_URL = {
    "samples": "STAGE.fit.steps and STAGE.fit.batch_size",
    "window_seconds": "laq.window_seconds",
    "validation_share": "STAGE.stream.validation_share",
}
"""Options, by their parameters, and the settings by which a run says the same."""


def register(app: typer.Typer) -> None:
    """Add the command to the group `data`."""
    app.command(epilog="Example: lapactl data mix run.yaml --set videos.temperature=2")(mix)


def mix(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="RUN_OR_MIX", help="Run whose data is a mixture, or URL of a mixture.")
    ],
    role: Annotated[
        Literal["videos", "robot"], typer.Option("--role", help="Of a run: which of its datasets.")
    ] = "videos",
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Of a URL: how many samples a training will draw.")
    ] = None,
    window_seconds: Annotated[
        float, typer.Option("--window-seconds", min=0.001, help="Of a URL: window of datasets without their own.")
    ] = 0.6,
    validation_share: Annotated[
        float,
        typer.Option("--validation-share", min=0, max=0.99, help="Of a URL: share of the episodes that is held out."),
    ] = 0.05,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show what training will see of each dataset.

    Episodes, hours and different samples of each, its share of what is drawn, and how often each
    stage goes through it. The datasets must be ingested; nothing is trained or written.
    """
    from lapa.data.mixture import action_clash
    from lapa.data.mixture_table import effective_samples, remarks
    from lapactl.mixing import is_run, open_mixture

    if is_run(source):
        _refuse_given(context, source)
    out = Output(output)
    found = open_mixture(
        source, role, overrides, samples=samples, window_seconds=window_seconds, validation_share=validation_share
    )
    rows = effective_samples(found.dataset, found.members, found.stages)
    clash = action_clash(found.members)
    if out.is_json:
        datasets = [asdict(row) | {"actions": _plain(row.actions)} for row in rows]
        twins_known = not found.lacks_twins
        out.json({"datasets": datasets, "action_clash": clash, "problem": found.problem, "twins_known": twins_known})
        return
    stages = [stage for stage, draws in found.stages.items() if draws.samples]
    shown = [
        {
            "dataset": row.dataset,
            "episodes": row.episodes,
            "hours": round(row.hours, 4),
            "fps": ", ".join(f"{fps:g}" for fps in row.fps),
            "window": "-" if row.window_seconds is None else f"{row.window_seconds:g} s",
            "samples": row.samples,
            "share": f"{row.share:.1%}",
            **{f"{stage} epochs": float(f"{row.epochs[stage]:.3g}") for stage in stages},
            "licences": ", ".join(row.licences),
        }
        for row in rows
    ]
    out.table(shown, columns=list(shown[0]))
    for stage in stages:
        out.say(f"{stage} draws {found.stages[stage].samples} samples")
    if found.lacks_twins:
        out.say("clips that two datasets share are found by `lapactl run ingest`; the split may move then")
    for remark in remarks(rows):
        out.warn(remark)
    if found.problem is not None:
        out.warn(f"the run will refuse this: {found.problem}")
    elif clash is not None:
        out.warn(f"{clash}: stages that learn actions refuse this mixture, laq and pretraining on codes do not mind")


def _refuse_given(context: typer.Context, source: str) -> None:
    """Refuse what a run's own settings say: it would change nothing."""
    for name, setting in _OF_A_URL.items():
        where = context.get_parameter_source(name)
        if where is not None and where.name != "DEFAULT":
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for the URL of a mixture, and {source} is a run: set {setting} with --set")


def _plain(statistics: Any) -> Mapping[str, Any] | None:
    return None if statistics is None else statistics.model_dump()
