"""What a report shows, as plain data: collected once, then only drawn."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from lapa.analysis.results import AnalysisResult
from lapa.config.run import RunConfig

Series = list[tuple[int, float]]
"""(step, value), in step order."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Thumbnail(_Record):
    """One frame of an episode."""

    data_uri: str
    caption: str


class DatasetSummary(_Record):
    """One dataset the run read."""

    role: str
    """`videos` or `robot`."""
    url: str
    revision: str
    episodes: int
    frames: int
    hours: float
    fps: tuple[float, ...]
    image_size: int
    has_actions: bool
    action_names: tuple[str, ...]
    embodiments: dict[str, int]
    """Episodes per embodiment."""
    licences: dict[str, int]
    """Episodes per licence."""
    num_instructions: int
    instructions: tuple[str, ...]
    """Some of them, the most frequent first."""
    thumbnails: tuple[Thumbnail, ...]


class Picture(_Record):
    """An image a stage logged."""

    name: str
    data_uri: str


class ArtifactSummary(_Record):
    url: str
    digest: str


class StageSummary(_Record):
    """One stage of one arm: of the run itself or of a baseline."""

    arm: str
    stage: str
    state: Literal["done", "unfinished", "missing"]
    """`unfinished` has logged something but left no result; `missing` has not run."""
    folder: str = ""
    seconds: float = 0.0
    started: str = ""
    finished: str = ""
    hardware: str = ""
    fingerprint: str = ""
    metrics: dict[str, float] = {}
    messages: tuple[str, ...] = ()
    inputs: dict[str, ArtifactSummary] = {}
    outputs: dict[str, ArtifactSummary] = {}
    history: dict[str, Series] = {}
    pictures: tuple[Picture, ...] = ()
    run_id: str = ""
    run_url: str | None = None
    registered: str = ""
    """Name and version in the model registry."""


class Outcome(_Record):
    """How one closed-loop episode ended."""

    start: str
    """Names the initial state: equal in two evaluations that began alike."""
    kind: str
    split: str
    instruction: str
    success: bool
    timesteps: int


class ArmSummary(_Record):
    """The run itself, or a baseline it is compared with."""

    name: str
    is_baseline: bool
    config: RunConfig
    differs: tuple[str, ...] = ()
    """Settings that differ from the run, as `key = value`."""
    stages: tuple[StageSummary, ...]
    outcomes: tuple[Outcome, ...] = ()
    """Every closed-loop episode; empty when there were none."""

    def stage(self, name: str) -> StageSummary | None:
        return next((stage for stage in self.stages if stage.stage == name), None)


class SettingChange(_Record):
    """One setting that differs from a preset."""

    key: str
    value: str
    before: str
    """The preset's; empty where it has none."""


class PresetDifference(_Record):
    """The run's settings against the preset that is nearest to them."""

    preset: str
    changes: tuple[SettingChange, ...]


class AnalysisSummary(_Record):
    """What the analyses found, with their pictures and videos as data URIs."""

    result: AnalysisResult | None = None
    media: dict[str, str] = {}
    """File in the analysis folder -> data URI."""
    note: str = ""
    """Why there is no result, in words."""


class RunSummary(_Record):
    """One run with its baselines, as its stage folders tell it."""

    name: str
    created: str
    """When the summary was collected: ISO 8601, UTC."""
    config: RunConfig
    work_url: str
    command: str
    """What reproduces the run, given `resolved` as its file."""
    resolved: str
    """The resolved run, as YAML."""
    differences: PresetDifference
    datasets: tuple[DatasetSummary, ...]
    arms: tuple[ArmSummary, ...]
    """The run itself first."""
    analysis: AnalysisSummary = AnalysisSummary()
    versions: dict[str, str]
    """Of the packages that matter, where the summary was collected."""

    @property
    def main(self) -> ArmSummary:
        return self.arms[0]

    @property
    def confidence(self) -> float:
        """Of the intervals in the success table."""
        return self.config.evaluate.confidence if self.config.evaluate else 0.95
