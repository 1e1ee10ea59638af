"""One run: everything from videos to a policy, in one value that fits one YAML file."""

from typing import Any, Literal

from pydantic import Field, model_validator

from lapa.config.base import Config, runtime
from lapa.config.data import (
    DatasetConfig,
    IngestConfig,
    SimulatedSource,
    TabletopSource,
    declared_licence,
    lacks_actions,
    parts_of,
)
from lapa.config.licences import licence_problem
from lapa.config.profile import ProfileConfig
from lapa.config.reads import ReadConfig
from lapa.config.stages import (
    EvaluateConfig,
    FinetuneConfig,
    LabelConfig,
    LaqConfig,
    PretrainConfig,
    PretrainTarget,
    TabletopEvaluation,
)
from lapa.config.training import EngineConfig, TorchEngineConfig


class TrackingConfig(Config):
    """Where runs are logged and models are registered."""

    enabled: bool = runtime(True)
    """Without it nothing goes to MLflow; numbers and pictures still lie in each stage's folder."""
    uri: str | None = None
    """MLflow tracking server or store; `MLFLOW_TRACKING_URI`, or a SQLite file beside the work folder, when null."""
    experiment: str = "lapa"
    artifact_url: str | None = None
    """Where a new experiment keeps its artifacts; the server's choice, or beside the SQLite file, when null."""


class RunConfig(Config):
    """Resolved, it reproduces the run."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=50)
    seed: int = Field(0, ge=0)
    work_url: str = runtime("work")
    """Folder of everything the run makes: local path, `s3://…`, or any fsspec protocol."""
    videos: DatasetConfig
    """Videos to learn latent actions from: `laq`, `label`, `pretrain`."""
    robot: DatasetConfig | None = None
    """Robot episodes with actions: `finetune`, `evaluate`."""
    laq: LaqConfig = LaqConfig()
    label: LabelConfig = LabelConfig()
    pretrain: PretrainConfig | None = PretrainConfig()
    finetune: FinetuneConfig | None = FinetuneConfig()
    evaluate: EvaluateConfig | None = EvaluateConfig()
    use: Literal["research", "commercial"] = runtime("research")
    """What the policy is for: datasets whose licence is not known to allow it are refused."""
    allowed_licences: tuple[str, ...] = runtime(())
    """Licences that allow `use` beyond the well-known ones: your own agreements, by the names that datasets give."""
    baselines: dict[str, dict[str, Any]] = runtime({})
    """Runs to compare with: name -> the settings that differ, as `--set` would give them."""
    reads: ReadConfig = runtime(ReadConfig())
    engine: EngineConfig = runtime(TorchEngineConfig())
    tracking: TrackingConfig = runtime(TrackingConfig())
    profile: ProfileConfig = runtime(ProfileConfig())
    log_level: Literal["debug", "info", "warning"] = runtime("info")

    @model_validator(mode="after")
    def _stages_fit_together(self) -> "RunConfig":
        if self.finetune and self.robot is None:
            raise ValueError("finetune needs robot episodes with actions: set robot, or set finetune to null")
        if self.finetune and self.pretrain is None and self.finetune.backbone is None:
            raise ValueError("without pretrain, finetune.backbone says what to start from")
        if self.finetune and self.pretrain and self.finetune.backbone is not None:
            raise ValueError(
                "finetune.backbone would be ignored: with pretrain, finetuning starts from the pretrained model. "
                "Set finetune.backbone to null, or pretrain to null"
            )
        if self.laq.gate and self.robot is None:
            raise ValueError("laq.gate probes the codes on robot episodes: set robot, or set laq.gate to null")
        if self.name in self.baselines:
            raise ValueError(f"a baseline is called '{self.name}', which is the run's own name; rename the baseline")
        self._check_licences()
        self._check_targets()
        self._check_actions()
        self._check_simulator()
        return self

    def _check_licences(self) -> None:
        """Of sources that settings name a licence of; the others are held against `use` when they are ingested."""
        named: dict[str, list[str]] = {}
        for role, config in (("videos", self.videos), ("robot", self.robot)):
            for name, part in parts_of(config).items() if config else ():
                licence = declared_licence(part)
                if licence is not None:
                    named[f"{role}.datasets.{name}" if name else role] = [licence]
        problem = licence_problem(self.use, named, self.allowed_licences)
        if problem is not None:
            raise ValueError(problem)

    def _check_targets(self) -> None:
        """What pretrain learns must be what the labeller gives."""
        labels_actions = self.laq.labeller == "inverse-dynamics"
        if labels_actions and self.robot is None:
            raise ValueError("laq.labeller=inverse-dynamics learns from robot episodes with actions: set robot")
        if self.pretrain is None:
            if self.finetune and self.finetune.keep_head:
                raise ValueError("without pretrain there is no head for finetune.keep_head: set it to false")
            return
        kind = self.pretrain.target.kind
        if kind == "codes" and labels_actions:
            raise ValueError(
                "laq.labeller=inverse-dynamics labels actions, and pretrain.target.kind=codes wants codes: "
                "set pretrain.target.kind=labelled-actions, or laq.labeller=latent-action"
            )
        if kind == "labelled-actions" and not labels_actions:
            raise ValueError("pretrain.target.kind=labelled-actions needs laq.labeller=inverse-dynamics")
        if kind == "codes" and self.laq.model.codebook_size == 0:
            raise ValueError(
                f"quantizer kind '{self.laq.model.quantizer.kind}' makes no codes to pretrain on; "
                "choose nsvq, vq_ema or fsq"
            )
        self._check_finetuning(self.pretrain.target, self.finetune)

    def _check_actions(self) -> None:
        """What learns actions must be given some: told now, and not after hours of training."""
        kind, laq = self.pretrain.target.kind if self.pretrain else None, self.laq
        learners = {
            "pretrain.target.kind=recorded-actions": kind == "recorded-actions",
            "laq.supervision": laq.supervision is not None and laq.labeller == "latent-action",
        }
        self._refuse_videos_alone("videos", self.videos, learners)
        learners = {
            "finetune": self.finetune is not None,
            "laq.labeller=inverse-dynamics": laq.labeller == "inverse-dynamics",
            "laq.gate": laq.gate is not None,
        }
        self._refuse_videos_alone("robot", self.robot, learners)

    @staticmethod
    def _refuse_videos_alone(role: str, dataset: DatasetConfig | None, learners: dict[str, bool]) -> None:
        """Of each learner, whether the run has it."""
        learner = next((name for name, is_there in learners.items() if is_there), None)
        if learner and dataset is not None and lacks_actions(dataset):
            raise ValueError(
                f"{learner} reads actions, and the episodes of '{role}' are recorded without: set "
                f"{role}.source.record=demonstrations where a simulator records them, or choose a {role}.source that "
                "has actions (kind lerobot, rlds or hdf5)"
            )

    def _check_simulator(self) -> None:
        """A policy drives the body that it was finetuned on: another one's actions may have as many dimensions."""
        simulator = self.evaluate.simulator if self.evaluate else None
        source = self.robot.source if isinstance(self.robot, IngestConfig) else None
        if simulator is None or not isinstance(source, SimulatedSource):
            return
        key, driven, recorded = "kind", str(simulator.kind), str(source.kind)
        if isinstance(simulator, TabletopEvaluation) and isinstance(source, TabletopSource):
            key, driven, recorded = "scene.world", simulator.scene.world, source.scene.world
        if driven != recorded:
            raise ValueError(
                f"evaluate.simulator.{key}={driven} has another robot than robot.source.{key}={recorded}: "
                "set both to the same"
            )

    @staticmethod
    def _check_finetuning(target: PretrainTarget, finetune: FinetuneConfig | None) -> None:
        """What finetuning keeps must be what pretrain made."""
        if finetune is None:
            return
        if finetune.keep_head and target.kind == "codes":
            raise ValueError("finetune.keep_head needs a pretrain target of actions: set it to false")
        if finetune.keep_head and target.kind != "codes" and finetune.head != target.head:
            raise ValueError(
                f"finetune.head ({finetune.head}) would be ignored: with finetune.keep_head the head is "
                f"pretrain.target.head ({target.head}). Set both to the same, or finetune.keep_head to false"
            )
        if finetune.latent_loss_weight and target.kind != "codes":
            raise ValueError(
                f"finetune.latent_loss_weight={finetune.latent_loss_weight:g} would be ignored: a model pretrained on "
                f"{target.kind} has no latent head. Set it to 0"
            )
