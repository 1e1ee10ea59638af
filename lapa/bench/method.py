"""One row of the study: which stages it runs, and what it sets otherwise than the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lapa.bench.settings import Setting
from lapa.bench.sizes import StudySize
from lapa.config.run import RunConfig
from lapa.config.stages import StageName

Role = Literal["method", "control", "floor", "ablation"]
ALL_SETTINGS = ("in-domain", "cross-task", "cross-environment", "distractors")
CODES: tuple[StageName, ...] = ("ingest", "laq", "label", "pretrain", "finetune", "evaluate")
"""Learning from videos by their codes."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the study."""

    name: str
    says: str
    """What it learns from, in one sentence."""
    stages: tuple[StageName, ...] = CODES
    changes: Callable[[StudySize, Setting, RunConfig], dict[str, Any]] = lambda size, setting, base: {}
    finetune_rate: float | None = None
    """Learning rate of finetuning where it is not the setting's; chosen on validation tables."""
    role: Role = "method"
    settings: tuple[str, ...] = ALL_SETTINGS
    """Where it is tried."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Settings that are this method's alone and come by `--set`, each with where to get its value. A method that needs
    any is no row of a study that names none."""
    varies: str | None = None
    """The one setting, as `--set` names it, in which it differs from `lapa`; None for a method of another kind."""
