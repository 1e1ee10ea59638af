"""The table of a study as data: what the JSON file holds, and what Markdown and HTML are drawn from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Literal[1] = 1
EVERYTHING = "all"
"""Split of a cell that pools all of them."""
UNSEEN = "unseen"
"""Split of a cell that pools all but the seen one."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeedRate(_Record):
    seed: int
    episodes: int
    successes: int


class Cell(_Record):
    """Success of one method in one setting on one split, pooled over seeds."""

    setting: str
    method: str
    split: str
    """A split's name, `unseen` or `all`."""
    episodes: int
    successes: int
    low: float
    high: float
    """Wilson's 95 % interval over episodes: what another draw of seeds would change is not in it."""
    seeds: tuple[SeedRate, ...]

    @property
    def rate(self) -> float:
        return self.successes / self.episodes


class KindCell(_Record):
    """The same by task kind, over all splits."""

    setting: str
    method: str
    kind: str
    is_demonstrated: bool
    """Whether the robot's demonstrations show this kind."""
    episodes: int
    successes: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.successes / self.episodes


class Comparison(_Record):
    """Two methods on the same initial states, over all seeds and splits."""

    setting: str
    method: str
    against: str
    wins: int
    ties: int
    losses: int
    difference: float
    """Success rate of the method minus that of the other one."""
    standard_error: float
    p_value: float
    """McNemar's exact test, two-sided."""


class Gain(_Record):
    """Share of ActionVLA's gain over Scratch."""

    setting: str
    method: str
    split: str
    share: float
    low: float | None
    high: float | None
    """95 % by bootstrap over seeds and episodes."""


class Codes(_Record):
    """The latent-action model of one method and seed."""

    videos: str
    """Setting whose videos it learned from; settings with the same videos share it."""
    method: str
    seed: int
    perplexity: float | None = None
    joint_perplexity: float | None = None
    dead_share: float | None = None
    relative_error: float | None = None
    """Of the reconstruction, relative to repeating the first frame."""
    floor: float | None = None
    """The same number of the model whose codes are withheld."""
    r2: float | None = None
    """Of the videos' true motion, from the labels by a linear probe, on pairs that the probe was not fitted on."""


class Variation(_Record):
    """A row that differs from `lapa` in one setting."""

    method: str
    role: str
    key: str
    """As `--set` names it."""
    value: str
    ours: str
    """What `lapa` has instead."""


class Target(_Record):
    """Something that the study is meant to show."""

    says: str
    setting: str
    split: str
    value: str
    is_met: bool


class Failure(_Record):
    setting: str
    method: str
    seed: int
    words: str


class ArmRecord(_Record):
    """Where one arm's results are, so that each can be looked at; places are inside the work folder."""

    setting: str
    method: str
    seed: int
    run_file: str
    folders: dict[str, str]


class StageTime(_Record):
    """What a kind of stage cost."""

    stage: str
    made: int
    """How many were made, each counted once however many arms share it."""
    cpu_seconds: float
    wall_seconds: float
    """Both summed over all that were made."""


class Provenance(_Record):
    """What it took, and how to do it again."""

    command: str
    commit: str
    hardware: str
    versions: dict[str, str]
    finished: str
    """UTC."""
    wall_seconds: float
    """From the first stage's start to the last one's end, pauses between commands left in."""
    cpu_seconds: float
    """Of all stage processes."""


class BenchTable(_Record):
    """Everything."""

    schema_version: Literal[1] = SCHEMA_VERSION
    study: str
    size: str
    is_validation: bool
    """Whether these are the tables that hyperparameters are chosen on."""
    settings: dict[str, str]
    """Name -> what it asks."""
    methods: dict[str, str]
    """Name -> what it learns from."""
    seeds: int
    splits: tuple[str, ...]
    cells: tuple[Cell, ...]
    kinds: tuple[KindCell, ...]
    comparisons: tuple[Comparison, ...]
    gains: tuple[Gain, ...]
    codes: tuple[Codes, ...]
    variations: tuple[Variation, ...] = ()
    targets: tuple[Target, ...]
    failures: tuple[Failure, ...]
    arms: tuple[ArmRecord, ...]
    times: tuple[StageTime, ...]
    provenance: Provenance

    def cell(self, setting: str, method: str, split: str = EVERYTHING) -> Cell | None:
        """None where the arm is not part of the study, or has no result."""
        wanted = (setting, method, split)
        return next((item for item in self.cells if (item.setting, item.method, item.split) == wanted), None)
