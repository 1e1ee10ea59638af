"""Where a rank's memory goes. Bytes throughout; the parts were compared with the tensors of real ranks.

Weights, gradients and moments are fp32 in both engines; bf16 is the arithmetic of the passes (autocast). What
DeepSpeed 0.19 holds under each stage was read off its tensors: from stage 1 on it keeps an fp32 copy of a rank's
share of the weights beside the weights themselves.
"""

from dataclasses import dataclass, fields, replace

from lapa.config.training import DeepSpeedEngineConfig, EngineConfig
from lapa.estimate.footprint import Footprint, Work

FLOAT = 4
LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's default of `stage3_max_live_parameters`: so many elements stay gathered at once."""
FRAMEWORK_BYTES = 2e9
"""CUDA's context, the libraries' kernels, NCCL's buffers. Assumed."""
FRAGMENTED = 0.05
"""Share of a device that the allocator cannot give away. Assumed."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of one rank, at the start of the backward pass: the moment that holds most."""

    parameters: int
    gradients: int
    optimizer: int
    """Moments, DeepSpeed's fp32 copy of the weights, and the moving average where there is one."""
    activations: int
    gathered: int
    """Whole layers under ZeRO-3, and communication buckets."""
    inputs: int

    @property
    def tensors(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def needed(self) -> float:
        return self.tensors + FRAMEWORK_BYTES


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the state of a training lies on its ranks."""

    ranks: int
    micro_batch: int
    micro_batches: int = 1
    """Per update: gradients are accumulated over them."""
    zero_stage: int = 0
    is_deepspeed: bool = False
    is_offloaded: bool = False
    bucket_bytes: int = 0
    has_average: bool = False
    is_half: bool = False
    """Whether the passes compute in bf16."""


def layout_of(
    engine: EngineConfig, *, ranks: int, micro_batch: int, micro_batches: int = 1, has_average: bool, is_half: bool
) -> Layout:
    layout = Layout(
        ranks=ranks, micro_batch=micro_batch, micro_batches=micro_batches, has_average=has_average, is_half=is_half
    )
    if not isinstance(engine, DeepSpeedEngineConfig):
        return layout
    return replace(
        layout,
        is_deepspeed=True,
        zero_stage=engine.zero_stage,
        is_offloaded=engine.offload and engine.zero_stage > 0,
        bucket_bytes=engine.bucket_bytes,
    )


def training_memory(footprint: Footprint, work: Work, layout: Layout) -> Memory:
    """Of one rank that trains."""
    total, trainable = footprint.numel, footprint.trainable
    inputs = 2 * footprint.frame_bytes * layout.micro_batch * layout.micro_batches
    activations = work.saved.at(layout.micro_batch) + work.recomputed.at(layout.micro_batch)
    copies = 1 if layout.zero_stage else 0
    share = trainable if not layout.zero_stage else -(-trainable // layout.ranks)
    state = FLOAT * (2 + copies) * share
    average = FLOAT * (total if layout.zero_stage < 3 else share) if layout.has_average else 0
    if layout.zero_stage < 3:
        gathered = layout.bucket_bytes if layout.zero_stage else 0
        parameters = FLOAT * total + footprint.buffer_bytes
    else:
        gathered = _gathered(footprint, layout)
        parameters = FLOAT * -(-total // layout.ranks) + footprint.buffer_bytes
    # Stage 1 keeps whole gradients while micro batches are accumulated; with one pass they go into shares at once.
    whole = layout.zero_stage == 0 or (layout.zero_stage == 1 and layout.micro_batches > 1)
    gradients = FLOAT * (trainable if whole else share)
    if layout.is_offloaded:
        state, gradients = 0, gradients if whole else 0
    return Memory(
        parameters=parameters,
        gradients=gradients,
        optimizer=state + average,
        activations=activations,
        gathered=gathered,
        inputs=inputs,
    )


def inference_memory(footprint: Footprint, batch: int) -> Memory:
    """Of one rank that labels: what is kept for a backward pass bounds what one layer needs."""
    return Memory(
        parameters=FLOAT * footprint.numel + footprint.buffer_bytes,
        gradients=0,
        optimizer=0,
        activations=footprint.work.saved.at(batch),
        gathered=0,
        inputs=2 * footprint.frame_bytes * batch,
    )


def usable(memory_bytes: float) -> float:
    """What a rank may plan with."""
    return memory_bytes * (1 - FRAGMENTED)


def _gathered(footprint: Footprint, layout: Layout) -> int:
    """Everything, in a model below DeepSpeed's limit: a step leaves layers whole for the next pass that needs them.
    In fp32, whatever the passes compute in."""
    return FLOAT * min(footprint.numel, LIVE_PARAMETERS) + layout.bucket_bytes
