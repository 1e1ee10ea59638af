"""How large a study is. `tiny` shows that it works, `small` and `full` show who wins."""

from dataclasses import dataclass, field
from typing import Any

from lapa.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StudySize:
    """Steps, batches and episodes that all methods share."""

    name: str
    seeds: int
    """How many, unless `--seeds` says another number."""
    videos: int
    """Episodes of video."""
    demonstrations: int = 50
    """Robot episodes with actions."""
    laq_steps: int
    inverse_dynamics_steps: int
    """Of the labeller that learns from the demonstrations alone."""
    pretrain_steps: int
    finetune_steps: int
    episodes: int
    """Closed-loop episodes of each arm; a multiple of kinds times splits gives every cell as many."""
    laq_width: int = 32
    paper_width: int = 64
    caution: str = ""
    """What a reader of its tables must know first."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Further settings of every run."""


TINY = StudySize(
    name="tiny",
    seeds=1,
    videos=400,
    laq_steps=250,
    inverse_dynamics_steps=100,
    pretrain_steps=200,
    finetune_steps=100,
    episodes=96,
    caution="Size tiny shows that everything works. Its models are hardly trained and their codebooks hardly in use: "
    "who is ahead here means nothing. --size small answers that.",
    # Too short for the alarm: codebooks are still finding their place.
    changes={"laq.health.on_collapse": "warn"},
)
SMALL = StudySize(
    name="small",
    seeds=3,
    videos=2600,
    laq_steps=1500,
    inverse_dynamics_steps=600,
    pretrain_steps=1200,
    finetune_steps=400,
    episodes=288,
    # On processors with bf16 arithmetic a policy's step takes a little more than half as long.
    changes={
        "laq.inverse_dynamics.fit.precision": "bf16",
        "pretrain.fit.precision": "bf16",
        "finetune.fit.precision": "bf16",
    },
)
FULL = StudySize(
    name="full",
    seeds=5,
    videos=10_000,
    laq_steps=10_000,
    inverse_dynamics_steps=2_000,
    pretrain_steps=10_000,
    finetune_steps=2_000,
    episodes=576,
    laq_width=96,
    paper_width=256,
    changes={
        "laq.fit.batch_size": 256,
        "laq.fit.precision": "bf16",
        "laq.stream.workers": 4,
        "laq.inverse_dynamics.width": 64,
        "pretrain.backbone.width": 96,
        "pretrain.backbone.hidden": 512,
        "pretrain.fit.batch_size": 256,
        "pretrain.fit.precision": "bf16",
        "pretrain.stream.workers": 4,
        "finetune.fit.precision": "bf16",
        "finetune.stream.workers": 2,
        "engine.threads": 2,
    },
)
SIZES = {size.name: size for size in (TINY, SMALL, FULL)}


def size_named(name: str) -> StudySize:
    """Raises ConfigError for a size that does not exist."""
    if name not in SIZES:
        raise ConfigError(f"'{name}' is not a size of the benchmark; valid: {', '.join(SIZES)}")
    return SIZES[name]
