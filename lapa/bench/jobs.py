"""What a study consists of: chains of stages, many of which are the same stage."""

from dataclasses import dataclass

from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.config.tabletop import Split


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study, and the stages that are wanted of it, each made from those before it."""

    run: RunConfig
    stages: tuple[StageName, ...]


@dataclass(frozen=True, kw_only=True)
class Arm(Job):
    """One method in one setting with one seed."""

    setting: str
    method: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.setting}, {self.method}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """How one closed-loop episode of one arm ended."""

    seed: int
    """Of the initial state: equal for all arms of a setting and study seed."""
    kind: str
    split: Split
    success: bool
