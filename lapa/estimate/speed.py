"""How long a step takes: operations over what a GPU does of its peak, or communication, whichever is longer.

The share of the peak that a training reaches (MFU) is measured, not derived: `benchmarks/laq_speed.py --device cuda`
prints it for one machine. Until then the defaults are what others publish for transformers of this size: 33-39% in
bf16 (torchtitan, Llama 3.1 8B on H100). In fp32, products without tensor cores come closer to their lower peak.
"""

from dataclasses import dataclass

from lapa.estimate.footprint import Footprint, Work
from lapa.estimate.gpus import Gpu
from lapa.estimate.memory import FLOAT, Layout

ASSUMED_MFU = {"bf16": 0.35, "fp32": 0.6}
NETWORK_BANDWIDTH = 50e9
"""Bytes per second between nodes: 400 Gbit/s of network for each. Assumed; `--network-gbps` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What a job runs on."""

    gpu: Gpu
    nodes: int
    gpus_per_node: int
    network_bandwidth: float = NETWORK_BANDWIDTH
    """Bytes per second, one direction, of each node."""

    @property
    def ranks(self) -> int:
        return self.nodes * self.gpus_per_node

    @property
    def bandwidth(self) -> float:
        """Of a ring over all ranks: its slowest link, which all ranks of a node share where it leaves the node."""
        return self.gpu.link_bandwidth if self.nodes == 1 else min(self.network_bandwidth, self.gpu.link_bandwidth)


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one optimizer update (or of one forward pass, where nothing is trained)."""

    compute: float
    communication: float
    """Beside the computation, where the engine overlaps both."""
    optimizer: float

    @property
    def total(self) -> float:
        return max(self.compute, self.communication) + self.optimizer

    @property
    def limit(self) -> str:
        return "communication" if self.communication > self.compute else "compute"


def compute_seconds(flops: float, *, peak: float, mfu: float) -> float:
    """The time model itself, for any machine whose peak is known."""
    return flops / (peak * mfu)


def step_time(
    footprint: Footprint, work: Work, layout: Layout, machines: Machines, *, precision: str, mfu: float
) -> StepTime:
    samples = layout.micro_batch * layout.micro_batches
    compute = compute_seconds(samples * work.flops, peak=machines.gpu.peak(precision), mfu=mfu)
    share = footprint.trainable / (layout.ranks if layout.zero_stage else 1)
    # AdamW reads weight, gradient and two moments, and writes all but the gradient.
    optimizer = 7 * FLOAT * share / machines.gpu.memory_bandwidth
    return StepTime(compute=compute, communication=traffic(footprint, layout) / machines.bandwidth, optimizer=optimizer)


def traffic(footprint: Footprint, layout: Layout) -> float:
    """Bytes that a rank sends in one update, by ring algorithms."""
    around = (layout.ranks - 1) / layout.ranks
    gradients = (2 if layout.is_half and layout.zero_stage == 3 else FLOAT) * footprint.trainable * around
    if layout.zero_stage == 0:
        return 2 * gradients
    if layout.zero_stage < 3:
        passes = layout.micro_batches if layout.zero_stage == 2 else 1
        return passes * gradients + FLOAT * footprint.trainable * around
    weights = (2 if layout.is_half else FLOAT) * footprint.numel * around
    return layout.micro_batches * (2 * weights + gradients)
