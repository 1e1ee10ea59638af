"""How a stage trains: steps, batches, optimizer, engine, checkpoints."""

from typing import Annotated, Literal

from pydantic import Field

from lapa.config.base import Config, runtime


class OptimizerConfig(Config):
    """AdamW; with no weight decay it is Adam."""

    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(1.0, gt=0)
    """Largest global gradient norm; no clipping when null."""


class ConstantSchedule(Config):
    """The learning rate, after a linear warm-up."""

    kind: Literal["constant"] = "constant"
    warmup_steps: int = Field(0, ge=0)


class CosineSchedule(Config):
    """Linear warm-up, then half a cosine down to a share of the learning rate."""

    kind: Literal["cosine"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    final_share: float = Field(0.0, ge=0, le=1)


ScheduleConfig = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="kind")]


class FitConfig(Config):
    """One training: what the loop needs to know."""

    steps: int = Field(ge=0)
    """Optimizer updates; 0 validates and exports what training would start from."""
    batch_size: int = Field(gt=0)
    """Samples per update, over all ranks."""
    micro_batch_size: int | None = runtime(None, gt=0)
    """Samples per rank and forward pass; smaller ones accumulate gradients. The rank's whole share when not given."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ConstantSchedule()
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights and optimizer stay fp32."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Exponential moving average of the weights, used for validation and export."""
    validate_every: int = Field(500, gt=0)
    """Steps between validations. Part of the result: a stage that stops early decides it there."""
    validation_batches: int = Field(8, gt=0)
    checkpoint_every: int = runtime(500, gt=0)
    checkpoint_seconds: float | None = runtime(600.0, gt=0)
    """Also save when this long has passed since the last save."""
    keep_checkpoints: int = runtime(2, gt=0)
    log_every: int = runtime(20, gt=0)


class TorchEngineConfig(Config):
    """Plain torch, in one process."""

    kind: Literal["torch"] = "torch"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, gt=0)
    """CPU threads; torch's own choice when not given."""


class DeepSpeedEngineConfig(Config):
    """DeepSpeed ZeRO over all ranks of a torchrun launch."""

    kind: Literal["deepspeed"] = "deepspeed"
    zero_stage: Literal[0, 1, 2, 3] = 3
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, gt=0)
    offload: bool = False
    """Keep optimizer state in host memory."""
    bucket_bytes: int = Field(200_000_000, gt=0)
    """Size of the communication buckets; set it small for small models."""


EngineConfig = Annotated[TorchEngineConfig | DeepSpeedEngineConfig, Field(discriminator="kind")]
