"""The study as data: settings x methods x seeds, each a run of the ordinary stages.

Runs are written so that they share what they can. Stage folders are named by content, so the latent-action model,
its labels and the pretraining of one seed are made once for the three settings whose videos are the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lapa.bench.jobs import Arm
from lapa.bench.method import Method
from lapa.bench.methods import STUDIED, method_named
from lapa.bench.settings import SETTINGS, Setting, setting_named
from lapa.bench.sizes import StudySize, size_named
from lapa.config.load import changed
from lapa.config.models import tabletop_model
from lapa.config.presets import tabletop
from lapa.config.run import RunConfig
from lapa.errors import ConfigError

RATE = "finetune.fit.optimizer.learning_rate"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What one command asks for."""

    size: str = "small"
    settings: tuple[str, ...] = tuple(SETTINGS)
    methods: tuple[str, ...] = STUDIED
    seeds: int
    work_url: str = "work/bench"
    is_validation: bool = False
    """Evaluate on the tables that hyperparameters are chosen on, not on the test tables."""
    is_tracked: bool = False
    """Log every stage to MLflow."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings that all methods share, as `--set` gives them; what makes a method a method stays as it is. What one
    of the methods needs goes to that one alone."""


def arms_of(study: Study) -> list[Arm]:
    """Every arm, in the order of the table. Raises ConfigError for a name that does not exist, or no arm at all."""
    size = size_named(study.size)
    settings = [setting_named(name) for name in study.settings]
    methods = [method_named(name) for name in study.methods]
    for method in methods:
        _require_needs(method, study.overrides)
    arms = list(_arms(study, size, settings, methods))
    if not arms:
        tried = "; ".join(f"{method.name}: {', '.join(method.settings)}" for method in methods)
        raise ConfigError(f"none of these methods is tried in {', '.join(study.settings)} ({tried}); choose others")
    return arms


def _require_needs(method: Method, overrides: Mapping[str, Any]) -> None:
    for key, where in method.needs.items():
        if key not in overrides:
            raise ConfigError(f"'{method.name}' needs {key}, which has no default; add --set {key}=VALUE: {where}")


def _arms(study: Study, size: StudySize, settings: list[Setting], methods: list[Method]) -> Iterator[Arm]:
    own = {key for method in methods for key in method.needs}
    shared = {key: value for key, value in study.overrides.items() if key not in own}
    for seed in range(study.seeds):
        for setting in settings:
            base = _base(study, size, setting, seed, shared)
            for method in methods:
                if setting.name in method.settings:
                    run = _arm_run(study, size, setting, method, base)
                    yield Arm(run=run, stages=method.stages, setting=setting.name, method=method.name, seed=seed)


def _base(study: Study, size: StudySize, setting: Setting, seed: int, shared: Mapping[str, Any]) -> RunConfig:
    """What all methods of a setting and seed have in common."""
    return changed(
        tabletop(),
        {
            "seed": seed,
            "work_url": study.work_url,
            "baselines": {},
            "tracking.enabled": study.is_tracked,
            **setting.run_settings(
                videos=size.videos,
                demonstrations=size.demonstrations,
                episodes=size.episodes,
                seed=seed,
                validation=study.is_validation,
            ),
            "laq.model": tabletop_model(width=size.laq_width).model_dump(mode="json"),
            # No gate: it would read the demonstrations, which differ between settings, and stop methods at other steps.
            "laq.gate": None,
            **_steps("laq", size.laq_steps, validations=4),
            **_steps("laq.inverse_dynamics", size.inverse_dynamics_steps, validations=2),
            **_steps("pretrain", size.pretrain_steps, validations=3),
            **_steps("finetune", size.finetune_steps * setting.times_finetuning, validations=1),
            "pretrain.fit.schedule.warmup_steps": min(50, size.pretrain_steps // 4),
            **size.changes,
            **shared,
        },
    )


def _steps(stage: str, steps: int, *, validations: int) -> dict[str, Any]:
    return {f"{stage}.fit.steps": steps, f"{stage}.fit.validate_every": max(1, steps // validations)}


def _arm_run(study: Study, size: StudySize, setting: Setting, method: Method, base: RunConfig) -> RunConfig:
    changes = {"name": f"{setting.name}.{method.name}.{base.seed}", **method.changes(size, setting, base)}
    changes |= {key: study.overrides[key] for key in method.needs}
    if "finetune" in method.stages and RATE not in study.overrides:
        changes[RATE] = method.finetune_rate or setting.finetune_rate
    return changed(base, changes, what=f"{method.name} in {setting.name}")
