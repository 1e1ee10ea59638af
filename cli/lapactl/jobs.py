"""`lapactl jobs`: what runs on a cluster, and what to do when it does not."""

from typing import Annotated

import typer

from lapactl.options import OutputOption
from lapactl.output import Output, OutputFormat

app = typer.Typer(help="Watch, explain and stop jobs on a cluster.", no_args_is_help=True, rich_markup_mode=None)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Name, as `lapactl jobs list` prints it.")]
ClusterOption = Annotated[str | None, typer.Option("--cluster", metavar="NAME", help="Cluster profile.")]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", help="The profile's by default.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="No older than this: 90s, 15m, 2h, 1d.")
]
RankOption = Annotated[int | None, typer.Option("--rank", min=0, help="Lines of this global rank only.")]


@app.command("list", epilog="Example: lapactl jobs list --stage pretrain --output json")
def list_jobs(
    stage: Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="Jobs of this stage.")] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="Jobs in this state.")] = None,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """List jobs with their state, newest first."""
    from lapactl.jobs_show import print_jobs
    from lapactl.jobs_target import connect

    with connect(cluster, namespace) as target:
        print_jobs(Output(output), target, stage=stage, state=state)


@app.command(epilog="Example: lapactl jobs show lapa-pretrain-1a2b3c4d --events")
def show(
    job: JobArgument,
    has_events: Annotated[bool, typer.Option("--events", help="Also print what happened to it.")] = False,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show a job and its pods."""
    from lapactl.jobs_show import print_job
    from lapactl.jobs_target import connect

    with connect(cluster, namespace) as target:
        print_job(Output(output), target, job, has_events=has_events)


@app.command(epilog="Example: lapactl jobs why lapa-pretrain-1a2b3c4d")
def why(
    job: JobArgument,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Say in one sentence why a job is where it is.

    The reason comes from its queue, the scheduler, images, volumes, quota and nodes; the next
    line says what helps.
    """
    from lapactl.jobs_show import print_why
    from lapactl.jobs_target import connect

    with connect(cluster, namespace) as target:
        print_why(Output(output), target, job)


@app.command(epilog="Example: lapactl jobs digest lapa-pretrain-1a2b3c4d")
def digest(
    job: JobArgument,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Sum up a failure.

    First failing rank, its traceback, the last step, what kind of error it is, and every restart.
    """
    from lapactl.jobs_show import print_digest
    from lapactl.jobs_target import connect

    with connect(cluster, namespace) as target:
        print_digest(Output(output), target, job)


@app.command(epilog="Example: lapactl jobs logs lapa-pretrain-1a2b3c4d --follow --rank 0")
def logs(
    job: JobArgument,
    is_following: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
    rank: RankOption = None,
    since: SinceOption = None,
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Of each pod, the last lines only.")] = None,
    is_previous: Annotated[bool, typer.Option("--previous", help="Of the containers before their restart.")] = False,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Print what all ranks say, merged by time.

    With --output json, a JSON object per line.
    """
    from lapactl.jobs_target import connect, seconds_of
    from lapactl.jobs_watch import print_logs

    with connect(cluster, namespace) as target:
        print_logs(
            Output(output), target, job,
            is_following=is_following, rank=rank, since_seconds=seconds_of(since), tail=tail, is_previous=is_previous,
        )  # fmt: skip


@app.command(epilog="Example: lapactl jobs wait lapa-pretrain-1a2b3c4d --timeout 2h")
def wait(
    job: JobArgument,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Give up after this: 90s, 15m, 2h, 1d.")
    ] = None,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Wait for a job's end.

    Exit code: 0 it succeeded, 28 it failed, 29 it was deleted, 30 it goes on after --timeout.
    """
    from lapactl.jobs_target import connect, seconds_of
    from lapactl.jobs_watch import wait_for

    with connect(cluster, namespace) as target:
        wait_for(Output(output), target, job, timeout_seconds=seconds_of(timeout))


@app.command(epilog="Example: lapactl jobs cancel lapa-pretrain-1a2b3c4d --yes")
def cancel(
    job: JobArgument,
    is_sure: YesOption = False,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Stop a job and remove it.

    Its ranks save first; the same submission goes on from there.
    """
    from lapactl.jobs_change import cancel_job
    from lapactl.jobs_target import connect

    with connect(cluster, namespace) as target:
        cancel_job(Output(output), target, job, is_sure=is_sure)


@app.command(epilog="Example: lapactl jobs suspend lapa-pretrain-1a2b3c4d")
def suspend(
    job: JobArgument,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Take a job's nodes away and keep the job."""
    from lapactl.jobs_change import suspend_job
    from lapactl.jobs_target import connect

    with connect(cluster, namespace) as target:
        suspend_job(Output(output), target, job, is_suspended=True)


@app.command(epilog="Example: lapactl jobs resume lapa-pretrain-1a2b3c4d")
def resume(
    job: JobArgument,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Let a suspended job go on."""
    from lapactl.jobs_change import suspend_job
    from lapactl.jobs_target import connect

    with connect(cluster, namespace) as target:
        suspend_job(Output(output), target, job, is_suspended=False)


@app.command("exec", epilog="Example: lapactl jobs exec lapa-pretrain-1a2b3c4d --node 3 -- nvidia-smi")
def execute(
    job: JobArgument,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="Program and arguments, after --.")],
    node: Annotated[
        int | None, typer.Option("--node", min=0, help="Which of the job's pods; the first by default.")
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", min=0, help="The pod that this rank is in.")] = None,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Run a command beside a job's ranks.

    The role of submitters does not include it; platform teams grant it apart.
    """
    from lapactl.jobs_target import connect
    from lapactl.jobs_watch import run_command

    with connect(cluster, namespace) as target:
        run_command(Output(output), target, job, command, node=node, rank=rank)


@app.command(epilog="Example: lapactl jobs gc --older-than 7d --yes")
def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Finished jobs older than this.")
    ] = "7d",
    is_sure: YesOption = False,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Remove finished jobs that have no time to live.

    These are TrainJobs, and what broken-off submissions left. Other jobs remove themselves.
    """
    from lapactl.jobs_change import collect_garbage
    from lapactl.jobs_target import connect, seconds_of

    with connect(cluster, namespace) as target:
        collect_garbage(Output(output), target, older_than_seconds=seconds_of(older_than) or 0, is_sure=is_sure)
