"""`lapactl doctor`: can this machine, or a cluster, do what a run asks?"""

from typing import TYPE_CHECKING, Annotated

import typer

from lapactl.options import OutputOption, SetOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.run import DEFAULT_RUN

if TYPE_CHECKING:
    from lapactl.checks import Check


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(epilog="Example: lapactl doctor lapa --work s3://bucket/work")(doctor)


def doctor(
    run: Annotated[
        str | None, typer.Argument(metavar="PRESET|RUN.YAML", help="The run to prepare for.", show_default=DEFAULT_RUN)
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="NAME", help="Check the cluster of this profile instead.")
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines that the queue should have room for.")] = 1,
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    work: WorkOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Check what this machine can run, or what a cluster can.

    Of this machine: versions, devices, memory, disk, object store and tracking. With --cluster:
    API, permissions, operators, queue and quota, accounts, bucket, image, MLflow. Each
    problem comes with its remedy; exit code 1 if one keeps runs from working.
    """
    out = Output(output)
    checks = _of_machine(run, overrides, work) if cluster is None else _of_cluster(run, cluster, overrides, work, nodes)
    out.rows([check._asdict() for check in checks], columns=["check", "status", "found"])
    remedies: dict[str, list[str]] = {}
    for check in checks:
        remedies.setdefault(check.remedy, []).append(check.check)
    for remedy, names in remedies.items():
        if remedy:
            out.hint(f"{', '.join(names)}: {remedy}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _of_machine(run: str | None, overrides: list[str], work: str | None) -> list["Check"]:
    from lapa.config.load import load_run
    from lapactl.checks import check_everything

    return check_everything(load_run(run or DEFAULT_RUN, [*overrides, *([f"work_url={work}"] if work else [])]))


def _of_cluster(run: str | None, cluster: str, overrides: list[str], work: str | None, nodes: int) -> list["Check"]:
    from lapactl.cluster_checks import check_cluster
    from lapactl.submit_settings import Flag, resolve_settings

    flags = [Flag("--work", "work_url", work)] if work else []
    return check_cluster(resolve_settings(run, cluster=cluster, overrides=overrides, flags=flags), nodes=nodes)
