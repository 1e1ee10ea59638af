"""What `lapactl run` prints: before, with `--dry-run`; after, what was made, the success numbers, the next commands."""

from collections.abc import Sequence
from typing import Any

from lapa.config.load import dump_run
from lapactl.chain import StageOutcome, command_of
from lapactl.output import Output, duration
from lapactl.run import DEFAULT_RUN
from lapactl.selection import Selection


def print_plan(out: Output, selection: Selection, *, nproc: int) -> None:
    """The run as YAML that `lapactl run` takes again; the commands as comments below it."""
    run = selection.run
    commands = [(item, command_of(run, item, nproc=nproc)) for item in selection.planned]
    if out.is_json:
        stages = [{"stage": item.stage, "name": item.name, "command": command} for item, command in commands]
        out.json({"run": run.model_dump(mode="json"), "stages": stages})
        return
    out.text(dump_run(run))
    out.text("\n".join(f"# {' '.join(command)}" for _, command in commands))


def summarize(out: Output, selection: Selection, outcomes: Sequence[StageOutcome]) -> None:
    """Everything in JSON; in text a table of what was made, and one of the evaluation's numbers."""
    run = selection.run
    if out.is_json:
        # The name it was planned under: a result keeps the name of the run that made it, which may be another one.
        stages = [
            {**item.result.model_dump(mode="json"), "name": item.planned.name, "was_skipped": item.was_skipped}
            for item in outcomes
        ]
        out.json({"run": run.name, "work_url": run.work_url, "stages": stages})
        return
    out.table([row for item in outcomes for row in _made(item)], columns=["stage", "run", "time", "made", "where"])
    evaluations = [item for item in outcomes if item.planned.stage == "evaluate"]
    if evaluations:
        out.table(_scores(evaluations), columns=["number", *(item.planned.name for item in evaluations)])
    for item in evaluations:
        for message in item.result.messages:
            out.text(f"{item.planned.name}: {message}")
    for hint in _next_commands(selection):
        out.hint(hint)


def _made(item: StageOutcome) -> list[dict[str, Any]]:
    time = "unchanged" if item.was_skipped else duration(item.result.seconds)
    return [
        {"stage": item.planned.stage, "run": item.planned.name, "time": time, "made": name, "where": artifact.url}
        for name, artifact in item.result.outputs.items()
    ]


def _scores(evaluations: Sequence[StageOutcome]) -> list[dict[str, Any]]:
    """A row per number, a column per run or baseline: there are many numbers and few runs."""
    numbers = dict.fromkeys(name for item in evaluations for name in item.result.metrics)
    return [
        {"number": number, **{item.planned.name: item.result.metrics.get(number) for item in evaluations}}
        for number in numbers
    ]


def _next_commands(selection: Selection) -> list[str]:
    work = selection.run.work_url
    where = "" if work == "work" else f" --work {work}"
    if selection.stage is not None:
        return [f"run the rest with `lapactl run {selection.source}{where}`"]
    source = "" if selection.source == DEFAULT_RUN else f" {selection.source}"
    return [
        f"read the report with `lapactl report{source}{where} --open`",
        f"see what was registered with `lapactl models list{where}`",
    ]
