"""Everything found about one model, read and written as one file: what the report is drawn from."""

from typing import Literal

from pydantic import Field

from lapa import files
from lapa.analysis.exhibit_results import Across, AnalysisKind, Confusion, MediaFile, Rollout, Scatter
from lapa.analysis.probe_results import ProbeReport
from lapa.analysis.records import Record, Source

ANALYSIS_FILE = "analysis.json"
"""Written last into the folder `analysis-<digest10>`: the analysis is complete when it is there."""
SCHEMA_VERSION: Literal[2] = 2


class AnalysisResult(Record):
    """Everything found about one run's latent-action model, as the report shows it."""

    schema_version: Literal[2] = SCHEMA_VERSION
    digest: str
    """Of the settings and of the content of every input; the folder carries its first ten characters."""
    folder: str
    name: str
    """Of the run or model."""
    model: Source
    policy: Source | None = None
    """The pretrained VLA of the rollout."""
    datasets: dict[str, Source]
    """By role: `videos`, `robot`, or the name given on the command line."""
    settings: dict[str, str | int | float | bool | None] = Field({})
    probes: dict[str, ProbeReport] = Field({})
    """By role of the dataset."""
    scatters: tuple[Scatter, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    across: Across | None = None
    rollouts: tuple[Rollout, ...] = ()
    media: tuple[MediaFile, ...] = ()
    skipped: dict[str, str] = Field({})
    """Analysis -> why it is missing, in words for people."""
    seconds: float = 0.0
    finished: str = ""

    def media_of(self, kind: AnalysisKind) -> tuple[MediaFile, ...]:
        return tuple(item for item in self.media if item.kind == kind)


def read_analysis(folder: str) -> AnalysisResult | None:
    """The analysis in a folder, or None where none was finished or another version wrote it."""
    url = files.join(folder, ANALYSIS_FILE)
    if not files.exists(url):
        return None
    value = files.read_json(url)
    if value.get("schema_version") != SCHEMA_VERSION:
        return None
    return AnalysisResult.model_validate(value)


def write_analysis(result: AnalysisResult) -> None:
    files.write_json(files.join(result.folder, ANALYSIS_FILE), result.model_dump(mode="json"))
