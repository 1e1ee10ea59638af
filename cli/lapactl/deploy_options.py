"""What every `lapactl deploy` command is told in the same words, and how a bare name becomes `deploy start`."""

import difflib
import signal
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

DEFAULT_COMMAND = "start"
DEFAULT_ALIAS = "production"


class TargetKind(StrEnum):
    """Where policy servers run."""

    KUBERNETES = "kubernetes"
    KSERVE = "kserve"
    LOCAL = "local"


TargetOption = Annotated[TargetKind, typer.Option("--target", help="Where it runs; local is this machine.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Deployment, as `lapactl deploy status` names it.")]
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Deployments; all by default.")]
ClusterOption = Annotated[str | None, typer.Option("--cluster", metavar="NAME", help="Cluster profile.")]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", help="The profile's by default.")]
StateOption = Annotated[
    str | None, typer.Option("--state", metavar="FOLDER", help="Where --target local keeps its record and logs.")
]
TimeoutOption = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="How long the new version may take to be ready: 90s, 15m."),
]
KeepOption = Annotated[
    int | None, typer.Option("--keep-minutes", min=0, help="How long the replaced version stays warm for a rollback.")
]
ReconnectOption = Annotated[
    bool,
    typer.Option(
        "--reconnect/--no-reconnect",
        help="Close connections to the replaced version now, so that their robots connect to the new one.",
    ),
]


def end_cleanly() -> None:
    """SIGTERM, as Ctrl-C, takes away what was begun; and a process that is the first of its container does not ignore
    it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class DeployGroup(TyperGroup):
    """`lapactl deploy lapa-policy@production` is `lapactl deploy start lapa-policy@production`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            self._refuse_typo(ctx, args[0])
            args = [DEFAULT_COMMAND, *args]
        return list(super().parse_args(ctx, args))

    def _refuse_typo(self, ctx: Any, word: str) -> None:
        """A command that is misspelt is no model's name."""
        close = difflib.get_close_matches(word, self.commands, n=1, cutoff=0.8)
        if close:
            ctx.fail(
                f"No such command '{word}'. Did you mean '{close[0]}'? A model of that name is deployed with "
                f"`lapactl deploy {DEFAULT_COMMAND} {word}`."
            )
