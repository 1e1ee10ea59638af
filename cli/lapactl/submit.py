"""`lapactl submit`: one stage as a job on a cluster, or all of them as a pipeline."""

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from lapactl.options import SetOption, WorkOption
from lapactl.output import Output, OutputFormat

DryRun = Literal["client", "server"]


class _DryRunCommand(TyperCommand):
    """`--dry-run` alone means `--dry-run=client`; Typer knows no option with an optional value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--dry-run=client" if item == "--dry-run" else item for item in args])


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(cls=_DryRunCommand, epilog="Example: lapactl submit pretrain --nodes 8 --dry-run")(submit)


def submit(
    stage: Annotated[
        str, typer.Argument(metavar="STAGE|pipeline", help="ingest, laq, label, pretrain, finetune, evaluate.")
    ],
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="PRESET|RUN.YAML", help="The run; the project's, or the preset lapa."),
    ] = None,
    nodes: Annotated[
        list[str], typer.Option("--nodes", metavar="N", help="Machines; in a pipeline also STAGE=N, repeatable.")
    ] = ["1"],  # noqa: B006 (Typer copies defaults)
    gpus_per_node: Annotated[
        int | None, typer.Option("--gpus-per-node", help="GPUs of each; all of them by default.")
    ] = None,
    processes_per_node: Annotated[
        int | None, typer.Option("--processes-per-node", help="Ranks on each; one per GPU by default.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Where a pipeline begins; its inputs are made.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="STAGE", help="Where a pipeline ends.")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", metavar="NAME", help="Cluster profile.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="Sets cluster.namespace.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Sets cluster.scheduling.queue.")] = None,
    image: Annotated[str | None, typer.Option("--image", help="Sets cluster.images.train.")] = None,
    operator: Annotated[
        Literal["auto", "pytorchjob", "trainjob", "job"],
        typer.Option("--operator", help="Who runs the pods; auto looks what the cluster serves."),
    ] = "auto",
    overrides: SetOption = [],  # noqa: B006 (Typer copies defaults)
    work: WorkOption = None,
    is_new: Annotated[bool, typer.Option("--new", help="Submit again what was submitted before.")] = False,
    dry_run: Annotated[
        DryRun | None,
        typer.Option(
            "--dry-run",
            metavar="[=client|server]",
            help="Print the manifests; =server has them checked.",
        ),
    ] = None,
    step_seconds: Annotated[
        float | None,
        typer.Option("--step-seconds", min=0, help="Measured time of a step on such nodes, for an estimate of hours."),
    ] = None,
    is_waiting: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit with the job's outcome.")] = False,
    is_following: Annotated[bool, typer.Option("--follow", help="Print the logs until the end.")] = False,
    output: Annotated[
        Literal["text", "yaml", "json"], typer.Option("--output", help="Print data as text, YAML or one JSON value.")
    ] = "text",
) -> None:
    """Run a stage on a cluster, or all of them.

    The same command twice is the same job: its name says its content. A setting that starts
    with cluster. is the profile's, e.g. --set cluster.gpu_node.cpu=64. `submit pipeline` runs
    each stage when the one before has succeeded; the cluster does that, without this machine.
    """
    from lapa_k8s.pipeline import PIPELINE
    from lapactl.selection import check_stages
    from lapactl.submit_job import Request
    from lapactl.submit_nodes import parse_nodes
    from lapactl.submit_pipeline import Chain, submit_pipeline
    from lapactl.submit_run import Wishes, submit_stage
    from lapactl.submit_settings import Flag

    is_pipeline = stage == PIPELINE
    if not is_pipeline:
        check_stages([stage])
        _refuse_range(first, last)
    machines = parse_nodes(nodes, is_pipeline=is_pipeline)
    request = Request(
        stage="ingest" if is_pipeline else stage,  # type: ignore[arg-type]  # just checked
        nodes=machines.of_all,
        gpus_per_node=gpus_per_node,
        processes_per_node=processes_per_node,
        operator=operator,
    )
    flags = [
        Flag(option, key, value)
        for option, key, value in (
            ("--namespace", "cluster.namespace", namespace),
            ("--queue", "cluster.scheduling.queue", queue),
            ("--image", "cluster.images.train", image),
            ("--work", "work_url", work),
        )
        if value is not None
    ]
    wishes = Wishes(
        source=config,
        cluster=cluster,
        overrides=overrides,
        flags=flags,
        is_new=is_new,
        dry_run=dry_run,
        is_waiting=is_waiting,
        is_following=is_following,
        step_seconds=step_seconds,
    )
    out = Output(OutputFormat.JSON if output == "json" else OutputFormat.TEXT)
    if is_pipeline:
        submit_pipeline(out, request, Chain(first=first, last=last, nodes_of=machines.of_stages), wishes)
    else:
        submit_stage(out, request, wishes)


def _refuse_range(first: str | None, last: str | None) -> None:
    from lapa.errors import ConfigError

    for option, value in (("--from", first), ("--to", last)):
        if value is not None:
            raise ConfigError(f"{option} {value} is for pipelines: lapactl submit pipeline {option} {value}")
