"""The one place that turns an exception into a message and an exit code.

| code | from | meaning |
|---|---|---|
| 0 | | done |
| 1 - 11 | `lapa.errors` | the library's tree; 2 is also a usage error, and a name that is not registered has 26 |
| 20 - 32 | `lapa_k8s.errors` | the cluster's tree, drawn there with its codes |
| 70 | here | a defect of ours (`EX_SOFTWARE`) |
| 75 | a stage | stopped, its step saved: run the same command again (`EX_TEMPFAIL`) |
| 130 | here | stopped by the user |
"""

import os
import tempfile
import traceback
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from lapa.errors import LapaError
from lapa_k8s.errors import ClusterError
from lapactl.output import say_error

UNEXPECTED_EXIT_CODE = 70
"""A defect of ours (`EX_SOFTWARE`), as opposed to anything in the tree of `lapa.errors`."""
INTERRUPTED_EXIT_CODE = 130
"""Ended by Ctrl-C or SIGTERM, as shells count it."""


STORAGE_REMEDY = (
    "Check the path; for S3 check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL. "
    "`lapactl doctor` tries it out."
)


class StageFailed(LapaError):
    """A stage's own process ended with an error; the exit code is the stage's."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(LapaError):
    """The user stopped a run; what it saved is kept."""

    exit_code = INTERRUPTED_EXIT_CODE


class ReportingGroup(TyperGroup):
    """The root of the command: an error becomes one clear message and the exit code of its class."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TyperException, typer.Exit, typer.Abort):
            raise  # usage errors and deliberate ends have their own words
        except (LapaError, ClusterError) as error:
            say_error(str(error))
            raise typer.Exit(error.exit_code) from error
        except Exception as error:
            if is_about_storage(error):
                say_error(f"{type(error).__name__}: {error}\n{STORAGE_REMEDY}")
                raise typer.Exit(LapaError.exit_code) from error
            say_error(
                f"unexpected {type(error).__name__}: {error}\n"
                f"This is a defect. The details are in {_write_traceback(error)}; please send them along."
            )
            raise typer.Exit(UNEXPECTED_EXIT_CODE) from error


def is_about_storage(error: Exception) -> bool:
    """Whether a disk or an object store refused; S3's errors are known by their package, which may be missing."""
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or not packages.isdisjoint({"botocore", "aiobotocore", "s3fs"})


def _write_traceback(error: Exception) -> Path:
    descriptor, path = tempfile.mkstemp(prefix="lapactl-", suffix=".log")
    with os.fdopen(descriptor, "w") as file:
        file.writelines(traceback.format_exception(error))
    return Path(path)
