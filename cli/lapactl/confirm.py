"""One question before something is lost, and what is said where nobody can answer it."""

import sys

import typer

from lapa.errors import ConfigError


def confirm(question: str, *, unasked: str = "repeat the command with --yes") -> None:
    """Go on only after a yes; `unasked` says how to do without the question.

    Raises ConfigError, which repeats it, where there is no answer to read: a cron job, a pipe that is empty.
    """
    try:
        is_sure = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C is an answer
            raise
        typer.echo(err=True)  # below the question
        raise ConfigError(
            f"nobody can answer, for there is no terminal; nothing was changed. Say that you are sure: {unasked}"
        ) from None
    if not is_sure:
        raise typer.Abort
