"""What a study consists of: chains of stages, many of which are the same stage."""

from dataclasses import dataclass

from lapa import files
from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.config.tabletop import Split
from lapa.stages.plan import dataset_url, datasets_of, stage_settings


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study, and the stages that are wanted of it, each made from those before it."""

    run: RunConfig
    stages: tuple[StageName, ...]


@dataclass(frozen=True, kw_only=True)
class Arm(Job):
    """One method in one setting with one seed."""

    setting: str
    method: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.setting}, {self.method}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """How one closed-loop episode of one arm ended."""

    seed: int
    """Of the initial state: equal for all arms of a setting and study seed."""
    kind: str
    split: Split
    success: bool


def static_key(job: Job, stage: StageName) -> str:
    """Equal for stages that will share a folder, before anything is made.

    For counting what lies ahead. Whether two stages really are one, their folders say, once their inputs exist.
    """
    run = job.run
    datasets = {role: dataset_url(run, config) for role, config in datasets_of(run).items()}
    parts: list[object] = [stage, stage_settings(run, stage)]
    match stage:
        case "ingest":
            pass
        case "laq":
            uses_robot = run.laq.gate is not None or run.laq.labeller == "inverse-dynamics"
            parts += [datasets["videos"], datasets.get("robot") if uses_robot else None]
        case "label":
            parts += [static_key(job, "laq")]
        case "pretrain":
            parts += [datasets["videos"], *([static_key(job, "label")] if "label" in job.stages else [])]
        case "finetune":
            parts += [datasets.get("robot"), *([static_key(job, "pretrain")] if "pretrain" in job.stages else [])]
        case "evaluate":
            parts += [datasets.get("robot"), static_key(job, "finetune")]
    return files.digest(repr(parts))
