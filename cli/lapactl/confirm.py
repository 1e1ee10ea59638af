"""One question before something is lost, and what is said where nobody can answer it."""

import sys

import typer

from lapa.errors import ConfigError


def confirm(question: str) -> None:
    """Go on only after a yes. Raises ConfigError where there is no answer to read: a cron job, a pipe that is empty."""
    try:
        is_sure = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C is an answer
            raise
        raise ConfigError(
            f"nobody answered '{question}', for there is no terminal; nothing was changed. Where nobody can be asked, "
            "say --yes: `lapactl … --yes`"
        ) from None
    if not is_sure:
        raise typer.Abort
