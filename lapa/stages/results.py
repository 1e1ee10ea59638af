"""What a finished stage leaves behind: where it is, what it was made from, what it measured."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from lapa import files

RESULT_FILE = "result.json"


class Artifact(BaseModel):
    """A dataset, a set of labels, a model or a report, named by its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    digest: str


class StageResult(BaseModel):
    """Written last into the stage's folder: the stage is complete when it is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    name: str
    """The run or baseline that made it."""
    fingerprint: str
    folder: str
    inputs: dict[str, Artifact]
    outputs: dict[str, Artifact]
    metrics: dict[str, float] = {}
    messages: tuple[str, ...] = ()
    """Verdicts in words, for people."""
    seconds: float = 0.0
    """Time of the last start; earlier, interrupted ones are not counted."""
    started: str = ""
    finished: str = ""
    hardware: str = ""
    code: dict[str, str] = {}
    """`lapa.commit` and `lapa.image` of the program, where they are known."""
    tracking: dict[str, Any] = {}
    """MLflow store, run id, and the registered model's name and version."""


def read_result(folder: str) -> StageResult | None:
    """The result of a complete stage, or None."""
    url = files.join(folder, RESULT_FILE)
    return StageResult.model_validate(files.read_json(url)) if files.exists(url) else None


def write_result(result: StageResult) -> None:
    files.write_json(files.join(result.folder, RESULT_FILE), result.model_dump(mode="json"))
