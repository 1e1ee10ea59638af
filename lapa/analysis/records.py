"""What all results of analyses are made of.

Data alone: without torch, so that commands and the report need nothing of what computes it.
"""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Record):
    """A model or dataset, named by its content."""

    url: str
    digest: str
    """Of a dataset: its revision."""
    name: str = ""
    """Short, for captions: the embodiment, or the folder's name."""


class Score(Record):
    """R2 with its interval: a bootstrap over the scored episodes."""

    r2: float | None
    low: float | None = None
    high: float | None = None
