"""`lapactl probe`: do a latent-action model's codes mean motion on a dataset?"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from lapactl.analyzing import FloorOption, PairsOption, SourceArgument, WindowOption, ask, source_of
from lapactl.options import OutputOption, SetOption
from lapactl.output import Output, OutputFormat


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl probe work/laq-0123456789 work/datasets/mine --transfer work/datasets/other")(
        probe
    )


def probe(
    source: SourceArgument,
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="Folder or URL of a dataset; the run's own robot episodes.")
    ] = None,
    transfer: Annotated[
        str | None, typer.Option("--transfer", metavar="DATASET", help="Take the probe to this dataset, too.")
    ] = None,
    floor: FloorOption = None,
    window: WindowOption = None,
    pairs: PairsOption = 4000,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Measure what a latent-action model's codes mean.

    Probes from codes and vectors to true motion with controls, information, camera leakage, reconstruction.
    """
    report = ask(
        "probe",
        {
            "source": source_of(source),
            "dataset": dataset,
            "transfer": transfer,
            "floor": floor,
            "window_seconds": window,
            "max_pairs": pairs,
            "overrides": overrides,
        },
    )
    out = Output(output)
    if out.is_json:
        out.json(report)
        return
    _print(out, report)


def _print(out: Output, report: Mapping[str, Any]) -> None:
    out.text(
        f"{report['num_fit_pairs']} frame pairs of {report['num_fit_episodes']} episodes to fit on, "
        f"{report['num_scored_pairs']} of {report['num_scored_episodes']} other ones to score on; "
        f"{report['window_seconds']:g} s apart"
    )
    _table(out, "R2 of true motion", _scores(report["scores"]))
    _table(out, "Bits about the actions", _information(report["information"]))
    _table(out, "Error of the future frame", _reconstruction(report["reconstruction"]))
    _table(out, "Global motion of the picture", _camera(report["camera"]))
    if report["transfer"]:
        _table(out, f"Taken to {report['transfer']['dataset']['url']}", _transfer(report["transfer"]["scores"]))
    for message in report["messages"]:
        out.text(message)


def _table(out: Output, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        out.text(f"\n{title}")
        out.table(rows, columns=list(rows[0]))


def _scores(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per probe and target, with its controls beside it."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for score in scores:
        key = (score["target"], score["features"], score["probe"])
        row = rows.setdefault(key, dict(zip(("target", "features", "probe"), key, strict=True)))
        if score["condition"] == "held-out":
            row |= {"R2": score["mean"]["r2"], "interval": _interval(score["mean"])}
            row |= {"worst dimension": _worst(score["dimensions"])}
        else:
            row[score["condition"].replace("-", " ")] = score["mean"]["r2"]
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    return [{name: row.get(name) for name in columns} for row in sorted(rows.values(), key=_order)]


def _order(row: Mapping[str, Any]) -> int:
    return ("actions", "relative", "absolute").index(row["target"])


def _worst(dimensions: Mapping[str, Mapping[str, Any]]) -> str | None:
    known = {name: score["r2"] for name, score in dimensions.items() if score["r2"] is not None}
    if not known:
        return None
    name = min(known, key=lambda name: known[name])
    return f"{name} {known[name]:.2f}"


def _interval(score: Mapping[str, Any]) -> str | None:
    return None if score["low"] is None else f"{score['low']:.2f} to {score['high']:.2f}"


def _information(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "codes": row["codes"],
            "about": row["about"],
            "bits": row["bits"],
            "by chance": row["bits_by_chance"],
            "of": row["entropy"],
        }
        for row in rows
        if row["codes"] == "joint" or row["about"] == "all"
    ]


def _reconstruction(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"predicted with": row["name"], "error": row["error"], "of copying": f"{row['of_copy']:.0%}"} for row in rows
    ]


def _camera(camera: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if not camera or not camera["moves"]:
        return []
    return [
        {"motion": name, "spread": camera["spread"][name], "R2 from codes": score["r2"]}
        for name, score in camera["global_motion"].items()
    ]


def _transfer(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    kinds = ("transferred", "realigned", "refitted")
    return [
        {name: score[name] for name in ("target", "features", "probe")} | {kind: score[kind]["r2"] for kind in kinds}
        for score in scores
    ]
