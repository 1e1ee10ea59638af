"""What an ingest did, for people and for the next run: written when it ends, and when it stops."""

from typing import Self

from pydantic import BaseModel

from lapa import files
from lapa.config.data import IngestConfig
from lapa.data.dataset import INDEX_FILE, INFO_FILE, REPORT_FILE, shard_name, stored_shards
from lapa.errors import TooManyFailures

NAMED_IN_MESSAGE = 3


class SourceProblem(BaseModel):
    source: str
    reason: str


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
    """Sources that could not be read."""
    skipped: list[SourceProblem] = []
    """Sources that could be read, and were too short."""

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
        if len(self.failed) <= config.max_failed_share * self.num_sources:
            return
        named = "; ".join(f"{problem.source}: {problem.reason}" for problem in self.failed[:NAMED_IN_MESSAGE])
        raise TooManyFailures(
            f"{len(self.failed)} of {self.num_sources} sources failed, more than max_failed_share="
            f"{config.max_failed_share}. First: {named} All are named in {files.join(output_url, REPORT_FILE)}. Repair "
            "or remove them and run ingest again (finished shards are kept), or raise max_failed_share."
        )
