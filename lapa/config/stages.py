"""One config per stage; the stage names are the ones every user meets."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lapa.config.base import Config, runtime
from lapa.config.data import StreamConfig
from lapa.config.inverse_dynamics import InverseDynamicsConfig
from lapa.config.latent_action import LatentActionConfig, NsvqConfig, TransformerArchitecture
from lapa.config.metaworld import METAWORLD_TASKS, MetaWorldCamera, MetaWorldTask
from lapa.config.tabletop import TabletopScene, TabletopTasks
from lapa.config.training import FitConfig
from lapa.config.vla import ActionHeadConfig, BackboneConfig, BinnedHead, HuggingFaceBackbone

StageName = Literal["ingest", "laq", "label", "pretrain", "finetune", "evaluate"]
STAGES: tuple[StageName, ...] = ("ingest", "laq", "label", "pretrain", "finetune", "evaluate")


STILL = 1e-4
"""Mean squared error of repeating the first frame, below which the two frames of a pair hardly differ."""


class HealthConfig(Config):
    """When a codebook counts as collapsed: below either line."""

    min_perplexity: float = Field(1.5, ge=1)
    """Perplexity of code usage, of at most `codebook_size`."""
    min_joint_perplexity: float = Field(1.5, ge=1)
    """Perplexity of whole latent actions. Positions that each always say the same use several codes, and name every
    change alike all the same."""
    patience: int = Field(3, gt=0)
    """Validations in a row below a line before the run stops."""
    on_collapse: Literal["repair", "stop", "warn"] = "repair"
    """`repair` restarts the whole codebook from the next batch's latents at every validation below a line, and stops
    when that did not help `patience` times; `stop` leaves it to the quantizer's own revival; `warn` goes on."""

    def is_collapsed(self, metrics: Mapping[str, float | None]) -> bool:
        """Whether codes, or whole latent actions, are fewer than the run accepts; never without codes."""
        lines = {"perplexity": self.min_perplexity, "joint_perplexity": self.min_joint_perplexity}
        found = {name: metrics.get(name) for name in lines}
        return any(value is not None and value < lines[name] for name, value in found.items())


class ProbeGate(Config):
    """Stop training early once the codes mean motion: a linear probe on the labelled robot episodes.

    `fit.steps` stays the limit. Checked at validations only, so the outcome repeats exactly.
    """

    min_r2: float = 0.6
    """Variance of the true motion over the window that a linear probe from the codes explains."""
    min_joint_perplexity: float = 15.0
    min_steps: int = 0


class ActionSupervision(Config):
    """A few recorded actions help the latents to mean motion (as LAOM does, arXiv 2502.00379)."""

    share: float = Field(0.02, gt=0, le=1)
    """Of the videos' episodes, chosen by a hash of their names: those whose recorded actions are read."""
    weight: float = Field(1.0, gt=0)
    """Of the regression from latents to normalized motion (its loss starts at about 1), beside the reconstruction loss
    (a mean squared error of pixels in [0, 1], often below 0.01)."""


class FrameAugmentation(Config):
    """Changes that no action makes, drawn anew for both frames of a pair, so that codes cannot hold them."""

    shift: float = Field(0.0, ge=0, le=0.5)
    """Largest translation, as a share of the image's side; the same for both frames of a pair."""
    brightness: float = Field(0.0, ge=0)
    """Largest change of brightness, as a share; different for the two frames the encoder sees."""


class LaqConfig(Config):
    """Stage `laq`: name the change between two frames."""

    labeller: Literal["latent-action", "inverse-dynamics"] = "latent-action"
    """`inverse-dynamics` trains `inverse_dynamics` on the robot's episodes instead (the VPT baseline): labels
    are then actions, and there are no codes."""
    inverse_dynamics: InverseDynamicsConfig = InverseDynamicsConfig()
    model: LatentActionConfig = LatentActionConfig()
    window_seconds: float = Field(0.6, gt=0)
    """Distance between the two frames: 0.6 s for robots, 2.4 s for human video in the paper."""
    released_weights: str | None = None
    """URL of a released state dict such as `laq_openx.pt` (tensors alone: anything else in it is refused), or
    the same as safetensors. The stage registers it as it is, to label with, and trains nothing."""
    train_released: bool = False
    """Train on from `released_weights`, with `fit`."""
    fit: FitConfig = FitConfig(steps=100_000, batch_size=64)
    stream: StreamConfig = StreamConfig()
    health: HealthConfig = HealthConfig()
    gate: ProbeGate | None = None
    supervision: ActionSupervision | None = None
    augmentation: FrameAugmentation | None = None

    @model_validator(mode="after")
    def _released_weights_fit_the_model(self) -> "LaqConfig":
        architecture = self.model.architecture
        in_layout = isinstance(architecture, TransformerArchitecture) and architecture.released_layout
        if self.released_weights and not (in_layout and isinstance(self.model.quantizer, NsvqConfig)):
            raise ValueError(
                "released_weights need laq.model.architecture.released_layout=true (kind transformer) and "
                "laq.model.quantizer.kind=nsvq; start from the preset lapa-paper"
            )
        if self.train_released and not self.released_weights:
            raise ValueError("train_released needs released_weights: set laq.released_weights to their URL")
        return self

    @model_validator(mode="after")
    def _supervision_reaches_the_latents(self) -> "LaqConfig":
        if self.supervision and self.model.quantizer.kind == "withheld":
            raise ValueError(
                "supervision teaches the codes to hold the motion, and quantizer kind 'withheld' has none: "
                "set laq.supervision to null, or choose another quantizer"
            )
        return self


class LabelConfig(Config):
    """Stage `label`: latent actions for every timestep. Uses the model and window of `laq`."""

    batch_size: int = runtime(64, gt=0)
    decode_threads: int = runtime(4, ge=0)
    """Threads of each process that decode the next episodes while the model looks at one; each holds an episode."""
    lease_seconds: float = runtime(60.0, gt=0)
    """A process not heard of for this long while it labels is taken for dead, and another one takes over its shard."""


class CodesTarget(Config):
    """The paper's: the codes of the latent-action model."""

    kind: Literal["codes"] = "codes"
    shuffled: bool = False
    """A control: every timestep learns another one's codes, so nothing can be learned but how often each occurs."""


class LabelledActionsTarget(Config):
    """Actions that the inverse-dynamics model put on the videos (VPT)."""

    kind: Literal["labelled-actions"] = "labelled-actions"
    head: ActionHeadConfig = BinnedHead()


class RecordedActionsTarget(Config):
    """The videos' own recorded actions (ActionVLA): what latent actions stand in for."""

    kind: Literal["recorded-actions"] = "recorded-actions"
    head: ActionHeadConfig = BinnedHead()


PretrainTarget = Annotated[CodesTarget | LabelledActionsTarget | RecordedActionsTarget, Field(discriminator="kind")]


class PretrainConfig(Config):
    """Stage `pretrain`: a VLM learns to predict latent actions."""

    target: PretrainTarget = CodesTarget()
    backbone: BackboneConfig = HuggingFaceBackbone()
    fit: FitConfig = FitConfig(steps=70_000, batch_size=256)
    stream: StreamConfig = StreamConfig()


class FinetuneConfig(Config):
    """Stage `finetune`: real actions from a few labelled episodes.

    Starts from the pretrained model; when the run has no `pretrain`, from `backbone` as it is (the
    Scratch baseline)."""

    backbone: BackboneConfig | None = None
    """Needed only without `pretrain`."""
    head: ActionHeadConfig = BinnedHead()
    keep_head: bool = False
    """Go on with the action head that `pretrain` trained, its bins and statistics too; needs a pretrain target
    of actions and the same action dimensions."""
    use_proprioception: bool = False
    latent_loss_weight: float = Field(0.0, ge=0)
    """Keeps the latent objective alive on the finetuning episodes; the paper drops it."""
    fit: FitConfig = FitConfig(steps=2_000, batch_size=128)
    stream: StreamConfig = StreamConfig()


class TabletopEvaluation(Config):
    """Closed loop in the embedded tabletop."""

    kind: Literal["tabletop"] = "tabletop"
    episodes: int = Field(180, gt=0)
    """At least one for each kind of task in each split that is asked for."""
    seed: int = Field(10_000, ge=0)
    """First seed of the initial states; never one that recordings use."""
    max_steps: int = Field(80, gt=0)
    """Tenths of a second after which a task counts as failed: timesteps in the studio, half as many in the workshop."""
    scene: TabletopScene = TabletopScene()
    tasks: TabletopTasks = TabletopTasks()

    @model_validator(mode="after")
    def _every_split_is_tried(self) -> "TabletopEvaluation":
        if self.tasks.splits and self.episodes < self.tasks.num_cells:
            raise ValueError(
                f"episodes={self.episodes} leaves out some of the {self.tasks.num_cells} combinations of kind and "
                "split, which take turns: set episodes to as many at least, or name fewer kinds or splits"
            )
        return self


class MetaWorldEvaluation(Config):
    """Closed loop in Meta-World, which needs the extra `metaworld`."""

    kind: Literal["metaworld"] = "metaworld"
    episodes: int = Field(100, gt=0)
    seed: int = Field(10_000, ge=0, lt=2**31)
    """First seed of the initial states; recordings draw theirs from another range."""
    max_steps: int = Field(60, gt=0, le=120)
    """Timesteps of 1/20 s; the experts need 10 to 30 mostly, and the package ends an episode after 6 s."""
    tasks: tuple[MetaWorldTask, ...] = Field(METAWORLD_TASKS, min_length=1)
    """In turn."""
    camera: MetaWorldCamera = "workspace"


SimulatorConfig = Annotated[TabletopEvaluation | MetaWorldEvaluation, Field(discriminator="kind")]


class EvaluateConfig(Config):
    """Stage `evaluate`: how good the policy is, with intervals."""

    policy: str | None = runtime(None, min_length=1)
    """Judge another policy than the one that `finetune` makes: a registered version (`NAME/3`, `NAME@candidate`), a
    bundle's URL, or a running server (`ws://…`, `http://…`). Its digest names the result; the registered version
    with that digest gets it."""
    simulator: SimulatorConfig | None = None
    """Closed-loop success; held-out action error alone when null."""
    confidence: float = Field(0.95, gt=0, lt=1)

    @model_validator(mode="after")
    def _another_policy_needs_a_simulator(self) -> "EvaluateConfig":
        if self.policy is not None and self.simulator is None:
            raise ValueError(
                f"evaluate.policy={self.policy} is judged in closed loop, and evaluate.simulator is null: set "
                "evaluate.simulator.kind, or judge the run's own policy on held-out actions (evaluate.policy=null)"
            )
        return self
