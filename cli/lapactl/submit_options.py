"""The options of `lapactl submit`."""

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

DryRun = Literal["client", "server"]


class DryRunCommand(TyperCommand):
    """`--dry-run` alone means `--dry-run=client`; Typer knows no option with an optional value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--dry-run=client" if item == "--dry-run" else item for item in args])


StageArgument = Annotated[
    str, typer.Argument(metavar="STAGE|pipeline", help="ingest, laq, label, pretrain, finetune, evaluate.")
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="PRESET|RUN.YAML", help="The run; the project's, or the preset lapa."),
]
NodesOption = Annotated[
    list[str], typer.Option("--nodes", metavar="N", help="Machines; in a pipeline also STAGE=N, repeatable.")
]
GpusOption = Annotated[int | None, typer.Option("--gpus-per-node", help="GPUs of each; all of them by default.")]
ProcessesOption = Annotated[
    int | None, typer.Option("--processes-per-node", help="Ranks on each; one per GPU by default.")
]
FirstOption = Annotated[
    str | None, typer.Option("--from", metavar="STAGE", help="Where a pipeline begins; its inputs are made.")
]
LastOption = Annotated[str | None, typer.Option("--to", metavar="STAGE", help="Where a pipeline ends.")]
ClusterOption = Annotated[str | None, typer.Option("--cluster", metavar="NAME", help="Cluster profile.")]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", help="Sets cluster.namespace.")]
QueueOption = Annotated[str | None, typer.Option("--queue", help="Sets cluster.scheduling.queue.")]
ImageOption = Annotated[str | None, typer.Option("--image", help="Sets cluster.images.train.")]
OperatorOption = Annotated[
    Literal["auto", "pytorchjob", "trainjob", "job"],
    typer.Option("--operator", help="Who runs the pods; auto looks what the cluster serves."),
]
NewOption = Annotated[bool, typer.Option("--new", help="Submit again what was submitted before.")]
DryRunOption = Annotated[
    DryRun | None,
    typer.Option("--dry-run", metavar="[=client|server]", help="Print the manifests; =server has them checked."),
]
StepSecondsOption = Annotated[
    float | None,
    typer.Option("--step-seconds", min=0, help="Measured time of a step on such nodes, for an estimate of hours."),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the end; exit with the job's outcome.")]
FollowOption = Annotated[bool, typer.Option("--follow", help="Print the logs until the end.")]
FormatOption = Annotated[
    Literal["text", "yaml", "json"], typer.Option("--output", help="Print data as text, YAML or one JSON value.")
]
