"""What a study took: machine, time, versions, commit, command."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from lapa.bench.collect import ArmResult
from lapa.bench.results import Provenance
from lapa.tracking.code import COMMIT_TAG, commit
from lapa.tracking.machine import machine_words

PACKAGES = ("lapa", "torch", "numpy")


def provenance_of(results: Sequence[ArmResult], *, command: str) -> Provenance:
    """From the stages' own records; wall time runs from the first start to the last end.

    Machine and commit are those that made the stages: the table may be written elsewhere and later. Stages that
    recorded none are taken to be made here.
    """
    stages = {made.folder: made for result in results for made in result.stages.values()}
    costs = {result.stages[stage].folder: cost for result in results for stage, cost in result.costs.items()}
    starts = [datetime.fromisoformat(made.started) for made in stages.values() if made.started]
    ends = [datetime.fromisoformat(made.finished) for made in stages.values() if made.finished]
    wall = (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0
    return Provenance(
        command=command,
        commit=_distinct(made.code.get(COMMIT_TAG, "") for made in stages.values()) or commit(),
        hardware=_distinct(made.hardware for made in stages.values()) or machine_words(),
        versions={name: found for name in PACKAGES if (found := _version(name))},
        finished=(max(ends) if ends else datetime.now(UTC)).isoformat(timespec="seconds"),
        wall_seconds=wall,
        cpu_seconds=sum(cost.cpu_seconds for cost in costs.values()),
    )


def _distinct(words: Iterable[str]) -> str:
    return "; ".join(sorted(set(words) - {""}))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
