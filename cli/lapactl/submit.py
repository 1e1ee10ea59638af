"""`lapactl submit`: one stage as a job on a cluster, or all of them as a pipeline."""

import typer

from lapactl.options import SetOption, WorkOption
from lapactl.output import Output, OutputFormat
from lapactl.submit_options import (
    ClusterOption,
    ConfigOption,
    DryRunCommand,
    DryRunOption,
    FirstOption,
    FollowOption,
    FormatOption,
    GpusOption,
    ImageOption,
    LastOption,
    NamespaceOption,
    NewOption,
    NodesOption,
    OperatorOption,
    ProcessesOption,
    QueueOption,
    StageArgument,
    StepSecondsOption,
    WaitOption,
)


def register(app: typer.Typer) -> None:
    """Add the verb to the root."""
    app.command(cls=DryRunCommand, epilog="Example: lapactl submit pretrain --nodes 8 --dry-run")(submit)


def submit(
    stage: StageArgument,
    config: ConfigOption = None,
    nodes: NodesOption = ["1"],  # noqa: B006 (Typer copies defaults)
    gpus_per_node: GpusOption = None,
    processes_per_node: ProcessesOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    queue: QueueOption = None,
    image: ImageOption = None,
    operator: OperatorOption = "auto",
    overrides: SetOption = [],  # noqa: B006
    work: WorkOption = None,
    is_new: NewOption = False,
    dry_run: DryRunOption = None,
    step_seconds: StepSecondsOption = None,
    is_waiting: WaitOption = False,
    is_following: FollowOption = False,
    output: FormatOption = "text",
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
    shortcuts = {
        ("--namespace", "cluster.namespace"): namespace,
        ("--queue", "cluster.scheduling.queue"): queue,
        ("--image", "cluster.images.train"): image,
        ("--work", "work_url"): work,
    }
    wishes = Wishes(
        source=config,
        cluster=cluster,
        overrides=overrides,
        flags=[Flag(*names, value) for names, value in shortcuts.items() if value is not None],
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
