"""What the records of an ingest's units say together."""

from collections.abc import Sequence

from lapa.data.ingest_plan import Plan
from lapa.data.ingest_records import UnitRecord
from lapa.data.ingest_report import NAMED, NAMED_IN_MESSAGE, IngestReport, QualityNote, QualitySummary, SourceProblem


class _Problems:
    """All are counted, the first are named."""

    def __init__(self) -> None:
        self.count = 0
        self.named: list[SourceProblem] = []

    def add(self, problems: Sequence[SourceProblem]) -> None:
        self.count += len(problems)
        self.named += problems[: NAMED - len(self.named)]


class Tally:
    """Gathered one by one."""

    def __init__(self) -> None:
        self.shard_bytes: list[int] = []
        self.dropped: list[SourceProblem] = []
        """The first few clips that were found wrong and left out."""
        self._episodes = self._frames = self._scenes = 0
        self._failed, self._skipped = _Problems(), _Problems()
        self._quality: dict[str, QualitySummary] = {}

    def add(self, record: UnitRecord) -> None:
        self.shard_bytes.append(record.shard_bytes)
        self._episodes += len(record.rows)
        self._frames += sum(row["num_frames"] for row in record.rows)
        self._failed.add(record.failed)
        self._skipped.add(record.skipped)
        for note in record.quality:
            self.note(note)

    def note(self, note: QualityNote, *, alike: int = 1) -> None:
        self._quality.setdefault(note.kind, QualitySummary()).add(note, alike=alike)
        if note.done == "dropped" and len(self.dropped) < NAMED_IN_MESSAGE:
            self.dropped.append(SourceProblem(source=note.source, reason=note.reason))

    def report(self, plan: Plan) -> IngestReport:
        """Not finished yet."""
        found = self._episodes + self._failed.count + self._skipped.count
        return IngestReport(
            fingerprint=plan.fingerprint,
            finished=False,
            num_sources=max(found, plan.declared),
            num_episodes=self._episodes,
            num_frames=self._frames,
            failed=self._failed.named,
            num_failed=self._failed.count,
            skipped=self._skipped.named,
            num_skipped=self._skipped.count,
            quality=dict(sorted(self._quality.items())),
        )
