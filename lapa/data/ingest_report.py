"""What an ingest did, for people and for the next run: written when it ends, and when it stops."""

from typing import Any, Literal, Self

from pydantic import BaseModel, model_validator

from lapa import files
from lapa.config.data import IngestConfig
from lapa.data.dataset import INDEX_FILE, INFO_FILE, REPORT_FILE, shard_name, stored_shards
from lapa.errors import TooManyFailures

NAMED_IN_MESSAGE = 3

NAMED = 1000
"""Of what failed, and of what was skipped, that the report names; all are counted, and named in `_units/*.json`."""

EXAMPLES = 24
"""Of what was found wrong, that the report names for each kind; all are counted."""


class SourceProblem(BaseModel):
    source: str
    reason: str


class QualityNote(BaseModel):
    """One thing that was found wrong with one clip."""

    source: str
    episode: str
    kind: str
    """`static`, `black`, `shaky`, `cuts`, `duplicates`."""
    done: Literal["tagged", "dropped", "split"]
    reason: str
    picture: str = ""
    """Of the clip, relative to the dataset; empty where none was kept."""


class QualitySummary(BaseModel):
    """Everything of one kind."""

    tagged: int = 0
    dropped: int = 0
    split: int = 0
    examples: list[QualityNote] = []
    """Those with pictures first."""

    def add(self, note: QualityNote, *, alike: int = 1) -> None:
        """Count a note, and as many that are not kept as are `alike`."""
        setattr(self, note.done, getattr(self, note.done) + alike)
        pictured = sum(bool(example.picture) for example in self.examples)
        if note.picture and pictured < EXAMPLES:
            self.examples.insert(pictured, note)
            del self.examples[EXAMPLES:]
        elif len(self.examples) < EXAMPLES:
            self.examples.append(note)


class IngestReport(BaseModel):
    """`ingest-report.json`."""

    fingerprint: str
    """Hash of the settings and the source's listing: while it stays the same, there is nothing to do."""
    finished: bool
    revision: str | None = None
    """Content of the dataset; None until it is finished."""
    shard_bytes: tuple[int, ...] = ()
    """Size of each shard; none until it is finished."""
    num_sources: int
    """Episodes the source declares, or those found where that is more."""
    num_episodes: int
    num_frames: int
    failed: list[SourceProblem] = []
    """Sources that could not be read, the first of them."""
    num_failed: int
    skipped: list[SourceProblem] = []
    """Sources that could be read, and were too short; the first of them."""
    num_skipped: int
    quality: dict[str, QualitySummary] = {}
    """What was found wrong with clips, by kind."""

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, values: Any) -> Any:
        """Older reports name all, and count none."""
        if not isinstance(values, dict):
            return values
        return {f"num_{kind}": len(values.get(kind, ())) for kind in ("failed", "skipped")} | values

    @classmethod
    def of_whole(cls, output_url: str) -> Self | None:
        """The report of a finished dataset whose files are all there, each shard of its size; None otherwise."""
        if not all(files.exists(files.join(output_url, name)) for name in (INFO_FILE, INDEX_FILE)):
            return None
        try:
            report = cls.model_validate(files.read_json(files.join(output_url, REPORT_FILE)))
        except (FileNotFoundError, ValueError):
            return None
        expected = {shard_name(number): size for number, size in enumerate(report.shard_bytes)}
        is_whole = report.finished and stored_shards(output_url) == expected
        return report if is_whole else None

    def write(self, output_url: str) -> None:
        files.write_json(files.join(output_url, REPORT_FILE), self.model_dump(mode="json"))

    def check_failures(self, config: IngestConfig, output_url: str) -> None:
        """Raises TooManyFailures above the tolerated share."""
        if self.num_failed <= config.max_failed_share * self.num_sources:
            return
        named = "; ".join(f"{problem.source}: {problem.reason}" for problem in self.failed[:NAMED_IN_MESSAGE])
        told = "All" if self.num_failed <= NAMED else f"The first {NAMED}"
        raise TooManyFailures(
            f"{self.num_failed} of {self.num_sources} sources failed, more than max_failed_share="
            f"{config.max_failed_share}. First: {named} {told} are named in {files.join(output_url, REPORT_FILE)}. "
            "Repair or remove them and run ingest again (finished shards are kept), or raise max_failed_share."
        )
