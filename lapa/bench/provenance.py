"""What a study took: machine, time, versions, commit, command."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lapa.bench.collect import ArmResult
from lapa.bench.results import Provenance
from lapa.tracking.code import commit

PACKAGES = ("lapa", "torch", "numpy")


def provenance_of(results: Sequence[ArmResult], *, command: str) -> Provenance:
    """From the stages' own records; wall time runs from the first start to the last end."""
    stages = {made.folder: made for result in results for made in result.stages.values()}
    costs = {result.stages[stage].folder: cost for result in results for stage, cost in result.costs.items()}
    starts = [datetime.fromisoformat(made.started) for made in stages.values() if made.started]
    ends = [datetime.fromisoformat(made.finished) for made in stages.values() if made.finished]
    wall = (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0
    return Provenance(
        command=command,
        commit=commit(),
        hardware=_hardware(),
        versions={name: found for name in PACKAGES if (found := _version(name))},
        finished=(max(ends) if ends else datetime.now(UTC)).isoformat(timespec="seconds"),
        wall_seconds=wall,
        cpu_seconds=sum(cost.cpu_seconds for cost in costs.values()),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hardware() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores"]
    if (smi := shutil.which("nvidia-smi")) is not None:
        query = [smi, "--query-gpu=name", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, check=False)
        parts += sorted(set(listed.stdout.split("\n")) - {""})
    return ", ".join(parts)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
