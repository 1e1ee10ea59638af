"""A profile of a running stage."""

from pydantic import Field

from lapa.config.base import Config


class ProfileConfig(Config):
    """What limits this run: data, compute or communication? Off by default; costs some speed while it looks."""

    steps: int = Field(0, ge=0)
    """Updates to look at (in stage `label`: shards); 0 profiles nothing. `ingest` and `evaluate` count all that their
    processes do, and trace so many shards of each process in full."""
    after: int = Field(3, ge=0)
    """Updates of this process to let pass first: the first ones compile, allocate and connect."""
