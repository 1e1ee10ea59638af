"""What a stage cost, over all of its starts; kept beside its result."""

from pydantic import BaseModel, ConfigDict

from lapa import files

COST_FILE = "cost.json"


class StageCost(BaseModel):
    """Of one start, or of several together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu_seconds: float
    """Of the process and its own ones, user and system."""
    wall_seconds: float
    starts: int = 1


def read_cost(folder: str) -> StageCost | None:
    """None where nobody measured."""
    url = files.join(folder, COST_FILE)
    return StageCost.model_validate(files.read_json(url)) if files.exists(url) else None


def add_cost(folder: str, cost: StageCost) -> None:
    """Add one start to what was measured before."""
    before = read_cost(folder) or StageCost(cpu_seconds=0, wall_seconds=0, starts=0)
    total = StageCost(
        cpu_seconds=before.cpu_seconds + cost.cpu_seconds,
        wall_seconds=before.wall_seconds + cost.wall_seconds,
        starts=before.starts + cost.starts,
    )
    files.write_json(files.join(folder, COST_FILE), total.model_dump(mode="json"))
