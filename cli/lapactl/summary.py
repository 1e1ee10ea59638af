"""What `lapactl run` prints: before, with `--dry-run`; after, what was made, the success numbers, the next commands."""

from collections.abc import Mapping, Sequence
from typing import Any

from lapa.config.load import dump_run
from lapa.stages.plan import run_file
from lapactl.chain import StageOutcome, command_of
from lapactl.output import Output, duration
from lapactl.run import DEFAULT_RUN
from lapactl.selection import Selection

MOST_NUMBERS = 40


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
    if successes := _successes(evaluations):
        out.table(successes, columns=["policy", "success", "interval", "episodes"])
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
    """A row per number, a column per run or baseline: there are many numbers and few runs. Where they would fill
    the screen, those of single action dimensions are left to `--output json`."""
    numbers = list(dict.fromkeys(name for item in evaluations for name in item.result.metrics))
    if len(numbers) > MOST_NUMBERS:
        numbers = [name for name in numbers if name.count("/") < 2]
    return [
        {"number": number, **{item.planned.name: item.result.metrics.get(number) for item in evaluations}}
        for number in numbers
    ]


def _successes(evaluations: Sequence[StageOutcome]) -> list[dict[str, Any]]:
    """Closed-loop success of each policy with its interval, and of the oracle on the same tables: the ceiling."""
    closed_loop = [item for item in evaluations if "success_rate" in item.result.metrics]
    rows = [_success(item.planned.name, item.result.metrics, "") for item in closed_loop]
    oracle = [item.result.metrics for item in closed_loop if "oracle_success_rate" in item.result.metrics]
    return rows + [_success("oracle", metrics, "oracle_") for metrics in oracle[:1]]


def _success(policy: str, metrics: Mapping[str, float], prefix: str) -> dict[str, Any]:
    low, high = metrics.get(f"{prefix}success_low"), metrics.get(f"{prefix}success_high")
    return {
        "policy": policy,
        "success": f"{metrics[f'{prefix}success_rate']:.1%}",
        "interval": f"{low:.1%} to {high:.1%}" if low is not None and high is not None else None,
        "episodes": int(metrics.get(f"{prefix}episodes", 0)) or None,
    }


def _next_commands(selection: Selection) -> list[str]:
    work = selection.run.work_url
    where = "" if work == "work" else f" --work {work}"
    # The file that the run left has the settings that were given beside its source, and its folder.
    source, there = (str(run_file(selection.run)), "") if selection.is_changed else (selection.source, where)
    if selection.stage is not None:
        return [f"run the rest with `lapactl run {source}{there}`"]
    named = "" if source == DEFAULT_RUN else f" {source}"
    return [
        f"read the report with `lapactl report{named}{there} --open`",
        f"see what was registered with `lapactl models list{where}`",
    ]
