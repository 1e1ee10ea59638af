"""Named runs. A preset is a function; its first docstring line is its description."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from lapa.config.data import (
    IngestConfig,
    LeRobotSource,
    MetaWorldSource,
    RldsSource,
    StreamConfig,
    TabletopSource,
    VideoEncoding,
    VideoFolderSource,
)
from lapa.config.latent_action import LatentActionConfig
from lapa.config.models import lapa_model, lapa_paper_model, tabletop_model
from lapa.config.run import RunConfig
from lapa.config.stages import (
    EvaluateConfig,
    FinetuneConfig,
    HealthConfig,
    LaqConfig,
    MetaWorldEvaluation,
    PretrainConfig,
    ProbeGate,
    TabletopEvaluation,
)
from lapa.config.training import (
    ConstantSchedule,
    CosineSchedule,
    DeepSpeedEngineConfig,
    FitConfig,
    OptimizerConfig,
    TorchEngineConfig,
)
from lapa.config.vla import BinnedHead, ConvolutionalBackbone, HuggingFaceBackbone, L1Head

TrainingStage = TypeVar("TrainingStage", LaqConfig, PretrainConfig, FinetuneConfig)


def tabletop() -> RunConfig:
    """The embedded default: videos of a tabletop become a policy on two CPU cores within a quarter of an hour."""
    return _tabletop(videos=2600, laq_steps=2000, pretrain_steps=1600, finetune_steps=500, rollouts=180)


def tabletop_smoke() -> RunConfig:
    """Plumbing only: every stage of the tabletop in about two minutes; nothing is learned."""
    run = _tabletop(videos=60, laq_steps=30, pretrain_steps=20, finetune_steps=20, rollouts=12)
    return run.model_copy(
        update={
            "name": "tabletop-smoke",
            "laq": run.laq.model_copy(update={"gate": None, "health": HealthConfig(on_collapse="warn")}),
        }
    )


def metaworld_smoke() -> RunConfig:
    """Plumbing only: every stage in Meta-World (needs the extra `metaworld`) in some minutes; nothing is learned."""
    smoke = tabletop_smoke()
    assert smoke.pretrain and isinstance(smoke.videos, IngestConfig)
    videos = MetaWorldSource(record="videos", episodes=40)
    demonstrations = MetaWorldSource(record="demonstrations", episodes=20)
    dataset = smoke.videos.model_copy(update={"image_size": videos.image_size})
    model = smoke.laq.model.model_copy(update={"image_size": videos.image_size})
    backbone = ConvolutionalBackbone(image_size=videos.image_size)
    return smoke.model_copy(
        update={
            "name": "metaworld-smoke",
            "videos": dataset.model_copy(update={"source": videos}),
            "robot": dataset.model_copy(update={"source": demonstrations}),
            "laq": smoke.laq.model_copy(update={"model": model}),
            "pretrain": smoke.pretrain.model_copy(update={"backbone": backbone}),
            "evaluate": EvaluateConfig(simulator=MetaWorldEvaluation(episodes=20)),
            "baselines": {},
        }
    )


def lapa() -> RunConfig:
    """Full size, our defaults: the published model with its defects put right, bf16 under ZeRO-3."""
    return _full_size(
        name="lapa",
        model=lapa_model(),
        laq_fit=FitConfig(
            steps=100_000,
            batch_size=64,
            optimizer=OptimizerConfig(learning_rate=1e-4, clip_norm=0.5),
            schedule=ConstantSchedule(warmup_steps=500),
            precision="bf16",
        ),
        resize="crop",
        health=HealthConfig(),
    )


def lapa_paper() -> RunConfig:
    """The published recipe, weight-compatible with the released latent-action model, to compare results."""
    return _full_size(
        name="lapa-paper",
        model=lapa_paper_model(),
        laq_fit=FitConfig(steps=100_005, batch_size=64, optimizer=OptimizerConfig(learning_rate=1e-4, clip_norm=0.5)),
        resize="squash",
        health=HealthConfig(on_collapse="warn"),
    )


def bridge_sample() -> RunConfig:
    """Real robot video, small: a folder of Bridge episodes in RLDS form to a policy and its held-out error."""
    source = RldsSource(url="data/bridge_dataset/1.0.0", fps=5, embodiment="widowx", licence="CC-BY-4.0")
    dataset = IngestConfig(source=source, image_size=64)
    small = _tabletop(videos=1, laq_steps=400, pretrain_steps=200, finetune_steps=150, rollouts=1)
    assert small.pretrain and small.finetune
    # By hash, this share of the 25 episodes is 5. The same ones stay out of every stage.
    stream = StreamConfig(lanes=8, shuffle_samples=1024, validation_share=0.3, workers=0)
    backbone = ConvolutionalBackbone(image_size=64)
    gentle = OptimizerConfig(learning_rate=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    pretrain_fit = {"validate_every": 50, "optimizer": gentle.model_copy(update={"learning_rate": 1e-3})}
    laq_changes = {
        "model": small.laq.model.model_copy(update={"image_size": 64}),
        "window_seconds": 0.6,
        "gate": None,
        "health": HealthConfig(on_collapse="warn"),
    }
    return small.model_copy(
        update={
            "name": "bridge-sample",
            "videos": dataset,
            "robot": dataset,
            "laq": _on_few_episodes(small.laq, stream, {"validate_every": 100}, **laq_changes),
            "pretrain": _on_few_episodes(small.pretrain, stream, pretrain_fit, backbone=backbone),
            "finetune": _on_few_episodes(
                small.finetune, stream, {"validate_every": 50, "optimizer": gentle}, head=L1Head(horizon=4)
            ),
            "evaluate": EvaluateConfig(),
            "baselines": _scratch(backbone, learning_rate=3e-4),
        }
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "tabletop": tabletop,
    "tabletop-smoke": tabletop_smoke,
    "metaworld-smoke": metaworld_smoke,
    "bridge-sample": bridge_sample,
    "lapa": lapa,
    "lapa-paper": lapa_paper,
}


def _tabletop(*, videos: int, laq_steps: int, pretrain_steps: int, finetune_steps: int, rollouts: int) -> RunConfig:
    backbone = ConvolutionalBackbone()
    encoding = VideoEncoding(crf=12)
    # In-process: with clips this small, a worker's messages cost more than the decoding they save.
    stream = StreamConfig(lanes=8, shuffle_samples=1024, validation_share=0.03, workers=0)
    return RunConfig(
        name="tabletop",
        videos=IngestConfig(source=TabletopSource(record="videos", episodes=videos), image_size=48, encoding=encoding),
        robot=IngestConfig(
            source=TabletopSource(record="demonstrations", episodes=50, seed=1_000_000),
            image_size=48,
            encoding=encoding,
        ),
        laq=LaqConfig(
            model=tabletop_model(),
            window_seconds=0.3,
            fit=FitConfig(
                steps=laq_steps,
                batch_size=96,
                optimizer=OptimizerConfig(learning_rate=1e-3),
                validate_every=min(200, laq_steps),
            ),
            stream=stream,
            gate=ProbeGate(min_r2=0.85, min_joint_perplexity=4.0),
        ),
        pretrain=PretrainConfig(
            backbone=backbone,
            fit=FitConfig(
                steps=pretrain_steps,
                batch_size=128,
                optimizer=OptimizerConfig(learning_rate=3e-3, betas=(0.9, 0.95)),
                schedule=CosineSchedule(warmup_steps=min(50, pretrain_steps // 4)),
                validate_every=min(400, pretrain_steps),
            ),
            stream=stream,
        ),
        finetune=_tabletop_finetuning(finetune_steps, stream),
        evaluate=EvaluateConfig(simulator=TabletopEvaluation(episodes=rollouts)),
        baselines=_scratch(backbone, learning_rate=3e-3),
        engine=TorchEngineConfig(threads=1),
    )


def _tabletop_finetuning(steps: int, stream: StreamConfig) -> FinetuneConfig:
    return FinetuneConfig(
        head=BinnedHead(bins=16, decode="mean"),
        fit=FitConfig(
            steps=steps,
            batch_size=64,
            optimizer=OptimizerConfig(learning_rate=3e-4, betas=(0.9, 0.95)),
            schedule=CosineSchedule(),
            validate_every=min(250, steps),
        ),
        stream=stream.model_copy(update={"validation_share": 0.1}),
    )


def _scratch(backbone: ConvolutionalBackbone, *, learning_rate: float) -> dict[str, dict[str, Any]]:
    """The same finetuning without pretraining, at the learning rate that suits it better."""
    return {
        "scratch": {
            "pretrain": None,
            "finetune.backbone": backbone.model_dump(mode="json"),
            "finetune.fit.optimizer.learning_rate": learning_rate,
        }
    }


def _on_few_episodes(config: TrainingStage, stream: StreamConfig, fit: dict[str, Any], **changes: Any) -> TrainingStage:
    """A training stage with small batches of its own stream, and other settings of `fit` and beside it."""
    small_fit = config.fit.model_copy(update={"batch_size": 32, **fit})
    return config.model_copy(update={"fit": small_fit, "stream": stream, **changes})


def _full_size(
    *, name: str, model: LatentActionConfig, laq_fit: FitConfig, resize: Literal["crop", "squash"], health: HealthConfig
) -> RunConfig:
    videos = IngestConfig(source=VideoFolderSource(url="s3://BUCKET/videos"), resize=resize)
    robot = IngestConfig(source=LeRobotSource(url="s3://BUCKET/robot"), resize=resize)
    language_model = OptimizerConfig(learning_rate=2e-5, betas=(0.9, 0.95))
    stream = StreamConfig(lanes=64, shuffle_samples=256, workers=4)
    return RunConfig(
        name=name,
        videos=videos,
        robot=robot,
        laq=LaqConfig(model=model, fit=laq_fit, stream=stream, health=health),
        pretrain=PretrainConfig(
            backbone=HuggingFaceBackbone(gradient_checkpointing=True),
            fit=FitConfig(steps=70_000, batch_size=256, optimizer=language_model, precision="bf16"),
            stream=stream,
        ),
        finetune=FinetuneConfig(
            fit=FitConfig(steps=2_000, batch_size=128, optimizer=language_model, precision="bf16"),
            stream=stream,
        ),
        engine=DeepSpeedEngineConfig(),
    )
