"""What the stages of a study left in their folders, arm by arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lapa import files
from lapa.bench.costs import StageCost, read_cost
from lapa.bench.jobs import Arm, Episode
from lapa.bench.probe import motion_r2
from lapa.config.stages import StageName
from lapa.stages.plan import NotMadeYet, finished, stage_folder
from lapa.stages.results import StageResult

PROBE_FILE = "probe.json"


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm, as far as it came."""

    arm: Arm
    stages: Mapping[StageName, StageResult]
    costs: Mapping[StageName, StageCost]
    episodes: tuple[Episode, ...] = ()
    """Empty where it was not evaluated."""
    r2: float | None = None
    """How much of the videos' true motion its labels explain."""


def collect(arms: Sequence[Arm]) -> list[ArmResult]:
    """Read every arm's results; arms that share a stage read the same one."""
    return [_arm_result(arm) for arm in arms]


def _arm_result(arm: Arm) -> ArmResult:
    stages: dict[StageName, StageResult] = {}
    for stage in arm.stages:
        try:
            result = finished(arm.run, stage)
        except NotMadeYet:
            break
        if result is None:
            break
        stages[stage] = result
    # Where the work folder is now, not where it was when they were made.
    folders = {stage: stage_folder(arm.run, stage) for stage in stages}
    costs = {stage: cost for stage, folder in folders.items() if (cost := read_cost(folder)) is not None}
    return ArmResult(
        arm=arm,
        stages=stages,
        costs=costs,
        episodes=_episodes(folders["evaluate"]) if "evaluate" in stages else (),
        r2=_r2(stages["label"], folders["label"]) if "label" in stages else None,
    )


def _episodes(folder: str) -> tuple[Episode, ...]:
    outcomes = files.read_json(files.join(folder, "episodes.json"))["policy"]["outcomes"]
    return tuple(
        Episode(seed=item["seed"], kind=item["kind"], split=item.get("split") or "seen", success=item["success"])
        for item in outcomes
    )


def _r2(label: StageResult, folder: str) -> float | None:
    """Kept beside the labels: it takes a second, and a table is made again and again."""
    url = files.join(folder, PROBE_FILE)
    if not files.exists(url):
        value = motion_r2(label.outputs["labels"].url, label.inputs["videos"].url)
        files.write_json(url, {"r2": value})
    r2: float | None = files.read_json(url)["r2"]
    return r2
