"""What the records of an ingest's units say together."""

from lapa.data.ingest_plan import Plan
from lapa.data.ingest_report import NAMED_IN_MESSAGE, IngestReport, QualityNote, QualitySummary, SourceProblem
from lapa.data.ingest_unit import UnitRecord


class Tally:
    """Gathered one by one."""

    def __init__(self) -> None:
        self.shard_bytes: list[int] = []
        self.dropped: list[SourceProblem] = []
        """The first few clips that were found wrong and left out."""
        self._episodes = self._frames = self._scenes = 0
        self._failed: list[SourceProblem] = []
        self._skipped: list[SourceProblem] = []
        self._quality: dict[str, QualitySummary] = {}

    def add(self, record: UnitRecord) -> None:
        self.shard_bytes.append(record.shard_bytes)
        self._episodes += len(record.rows)
        self._frames += sum(row["num_frames"] for row in record.rows)
        self._failed += record.failed
        self._skipped += record.skipped
        for note in record.quality:
            self.note(note)

    def note(self, note: QualityNote, *, alike: int = 1) -> None:
        self._quality.setdefault(note.kind, QualitySummary()).add(note, alike=alike)
        if note.done == "dropped" and len(self.dropped) < NAMED_IN_MESSAGE:
            self.dropped.append(SourceProblem(source=note.source, reason=note.reason))

    def report(self, plan: Plan) -> IngestReport:
        """Not finished yet."""
        found = self._episodes + len(self._failed) + len(self._skipped)
        return IngestReport(
            fingerprint=plan.fingerprint,
            finished=False,
            num_sources=max(found, plan.declared),
            num_episodes=self._episodes,
            num_frames=self._frames,
            failed=self._failed,
            skipped=self._skipped,
            quality=dict(sorted(self._quality.items())),
        )
