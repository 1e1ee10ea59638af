"""How commands find the registry, and the options with which they are told."""

import getpass
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from lapactl.run import DEFAULT_RUN

if TYPE_CHECKING:
    from lapa.config.run import RunConfig
    from lapa.tracking.records import Records
    from lapa.tracking.registry import ModelVersion, Registry
    from lapactl.output import Output

WAIT_SECONDS = 10.0
"""A command gives up on a registry that is away sooner than a stage does."""

ConfigOption = Annotated[
    str, typer.Option("--config", metavar="PRESET|RUN.YAML", help="The run whose tracking store is read.")
]
TrackingOption = Annotated[
    str | None, typer.Option("--tracking", metavar="URI", help="MLflow server or store; sets tracking.uri.")
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="NAME[@ALIAS|/VERSION]", help="A registered model; its candidate by default.")
]
DEFAULT_CONFIG = DEFAULT_RUN


def registry_run(config: str, work: str | None, tracking: str | None) -> "RunConfig":
    """The run whose tracking settings count."""
    from lapa.config.load import load_run

    changes = {"work_url": work, "tracking.uri": tracking}
    return load_run(config, [f"{key}={value}" for key, value in changes.items() if value])


def open_registry(config: str, work: str | None, tracking: str | None) -> "Registry":
    """The registry of a run. Raises TrackingError when its address is unusable."""
    from lapa.tracking.registry import Registry

    run = registry_run(config, work, tracking)
    return Registry.open(run.tracking, store=run.work_url, wait_seconds=WAIT_SECONDS)


def open_records(config: str, work: str | None, tracking: str | None) -> "Records":
    """Where reports are kept, beside the registry."""
    from lapa.tracking.records import Records

    run = registry_run(config, work, tracking)
    return Records.open(run.tracking, store=run.work_url)


def say_candidate(out: "Output", version: "ModelVersion", before: int | None) -> None:
    """Which version the alias `candidate` left for this one; a step back is no silent one."""
    if before is None or before == version.version:
        return
    moved = f"candidate: version {before} -> {version.version}"
    if before < version.version:
        out.say(moved)
        return
    out.warn(f"{moved}, which is older. Take it back with `lapactl promote {version.name}/{before} --to candidate`")


def person() -> str:
    """Who runs this command, for the record."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"unknown@{socket.gethostname()}"
