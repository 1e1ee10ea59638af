"""`lapactl promote`: move an alias to a policy that passed its gates."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lapactl.options import OutputOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.registry import (
    DEFAULT_CONFIG,
    ConfigOption,
    ModelArgument,
    TrackingOption,
    open_records,
    open_registry,
    person,
    say_candidate,
)

if TYPE_CHECKING:
    from lapa.promotion.promote import Attempt, Case
    from lapa.tracking.registry import Registry


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog='Example: lapactl promote lapa-policy@candidate --to production --reason "new gripper data"')(
        promote
    )


def promote(
    model: ModelArgument,
    to: Annotated[
        Literal["production", "candidate"], typer.Option("--to", help="The alias; `candidate` asks no gate.")
    ] = "production",
    gates: Annotated[
        str | None, typer.Option("--gates", metavar="FILE", help="YAML file of gates; the shipped ones by default.")
    ] = None,
    is_shown: Annotated[bool, typer.Option("--show-gates", help="Print the gates file that counts, and stop.")] = False,
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Judge, keep the report and end as it would, but move no alias.")
    ] = False,
    approver: Annotated[
        str | None, typer.Option("--approve", metavar="NAME", help="Record NAME's approval (needs --reason).")
    ] = None,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Overrule failed gates (needs --reason); visible for ever after.")
    ] = False,
    is_back: Annotated[
        bool, typer.Option("--back", help="Take the last promotion back: NAME/VERSION was in production, no gate.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="WHY", help="Why; kept with the promotion.")] = "",
    who: Annotated[str | None, typer.Option("--as", metavar="WHO", help="Who promotes; you by default.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    work: WorkOption = None,
    tracking: TrackingOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Judge a policy by its gates and make it `production`.

    Every gate is judged and the report kept in MLflow, whatever comes out. A refusal
    ends with exit code 10, a promotion that another one overtook with 11.
    """
    from lapa.errors import ConfigError
    from lapa.promotion.config import dump_gates, load_gates
    from lapa.promotion.promote import approve, attempt, carry_out, open_case, refuse_if_failed, restore_previous

    if (is_forced or approver) and not reason.strip():
        raise ConfigError(f"{'--force' if is_forced else '--approve'} needs --reason WHY: it is kept with the version")
    if is_back and (to != "production" or gates or is_dry or approver or is_forced or "/" not in model):
        raise ConfigError("--back asks no gate and needs the version, for example `lapactl promote NAME/3 --back`")
    out, chosen = Output(output), load_gates(gates)
    if is_shown:
        out.text(dump_gates(chosen))
        return
    registry = open_registry(config, work, tracking)
    if to == "candidate":
        _propose(out, registry, model)
        return
    case = open_case(registry, model)
    if approver:
        approve(registry, case.version, approver, reason)
        case = open_case(registry, f"{case.version.name}/{case.version.version}")
    if case.is_in_production:
        out.record({"model": case.version.name, "version": case.version.version, "promoted": False})
        out.say(f"{case.version.name}/{case.version.version} is in production already; nothing to do.")
        return
    if is_back:
        restore_previous(registry, case, who=who or person(), reason=reason)
        out.record({"model": case.version.name, "version": case.version.version, "promoted": True})
        _say_production(out, case)
        return
    judged = attempt(
        registry,
        open_records(config, work, tracking),
        case,
        chosen,
        who=who or person(),
        reason=reason,
        force=is_forced,
        progress=lambda gate: out.say(f"judging {gate} …"),
    )
    _show(out, judged)
    if is_dry:
        out.say("--dry-run: no alias was moved.")
        refuse_if_failed(judged.report)
        return
    carry_out(registry, judged)
    _say_production(out, case)
    out.hint(
        f"deploy it with `lapactl deploy start {case.version.name}@production`; on this machine add --target local"
    )


def _say_production(out: Output, case: "Case") -> None:
    replaced = "" if case.production is None else f"; version {case.production.version} is previous"
    out.say(f"{case.version.name}/{case.version.version} is production{replaced}.")


def _propose(out: Output, registry: "Registry", model: str) -> None:
    from lapa.promotion.bundles import set_candidate
    from lapa.tracking.references import resolve

    version = resolve(registry, model)
    before = set_candidate(registry, version)
    named = {"model": version.name, "version": version.version, "alias": "candidate", "candidate_before": before}
    out.record({**named, "digest": version.digest})
    say_candidate(out, version, before)


def _show(out: Output, judged: "Attempt") -> None:
    report = judged.report
    if out.is_json:
        out.json(_plain(judged))
        return
    rows = [
        {
            "gate": verdict.gate,
            "verdict": f"{verdict.outcome}, overruled" if verdict.gate in report.forced else verdict.outcome,
            "found": verdict.found,
            "wanted": verdict.wanted,
        }
        for verdict in report.verdicts
    ]
    out.table(rows, columns=["gate", "verdict", "found", "wanted"])
    for verdict in report.failures:
        out.hint(f"{verdict.gate}: {verdict.remedy}")
    out.say(f"report: {judged.record.url or f'MLflow run {judged.record.run_id}'}")


def _plain(judged: "Attempt") -> dict[str, Any]:
    report = judged.report
    return {
        **report.model_dump(mode="json"),
        "passes": report.passes,
        "report": {"run_id": judged.record.run_id, "url": judged.record.url},
    }
