"""How long a step takes: computing, or communication, whichever is longer.

Computing is the longest of three. Products: operations over what a GPU does of its peak (MFU). That share is measured,
not derived: `benchmarks/laq_speed.py --device cuda` prints it for one machine. Until then the defaults are what others
publish for large language models: 33-39% in bf16 (torchtitan, Llama 3.1 8B on H100); in fp32, products without tensor
cores come closer to their lower peak. Memory: products at the full peak, and every operator's bytes beside them. Calls:
the host's time to launch the operators, which a GPU waits for where the model, or its batch, is small.

`benchmarks/laq_speed.py` holds the model against measured steps of a CPU, where all of it follows each other.
"""

from dataclasses import dataclass
from typing import Literal

from lapa.estimate.footprint import Footprint, Work
from lapa.estimate.gpus import Gpu
from lapa.estimate.memory import FLOAT, Layout

ASSUMED_MFU = {"bf16": 0.35, "fp32": 0.6}
CALL_SECONDS = 7e-6
"""Of the host, per operator: 6.5 to 7.8 µs on one core (`microseconds_per_call` of `benchmarks/laq_speed.py`). Assumed
for the hosts of GPUs, too, where nothing is compiled."""
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


Regime = Literal["products", "memory", "calls"]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Of the passes of one update, on one device."""

    flops: float
    moved_bytes: float
    calls: float


@dataclass(frozen=True, kw_only=True)
class ComputeTime:
    """Seconds, if nothing but this took any."""

    products: float
    memory: float
    calls: float

    @property
    def total(self) -> float:
        return max(self.products, self.memory, self.calls)

    @property
    def regime(self) -> Regime:
        """Which of them the time is."""
        if self.calls >= max(self.products, self.memory):
            return "calls"
        return "memory" if self.memory > self.products else "products"


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one optimizer update (or of one forward pass, where nothing is trained)."""

    computing: ComputeTime
    communication: float
    """Beside the computation, where the engine overlaps both."""
    optimizer: float

    @property
    def compute(self) -> float:
        return self.computing.total

    @property
    def total(self) -> float:
        return max(self.compute, self.communication) + self.optimizer

    @property
    def limit(self) -> str:
        return "communication" if self.communication > self.compute else "compute"


def compute_seconds(flops: float, *, peak: float, mfu: float) -> float:
    """Of matrix products that reach a share of a machine's peak."""
    return flops / (peak * mfu)


def demand_of(work: Work, *, micro_batch: int, micro_batches: int = 1) -> Demand:
    return Demand(
        flops=micro_batches * micro_batch * work.flops,
        moved_bytes=micro_batches * work.moved.at(micro_batch),
        calls=micro_batches * work.calls,
    )


def roofline_seconds(demand: Demand, *, peak: float, bandwidth: float) -> float:
    """Of operators that follow each other: products at the peak, and what all of them read and write."""
    return demand.flops / peak + demand.moved_bytes / bandwidth


def compute_time(demand: Demand, gpu: Gpu, *, precision: str, mfu: float | None = None) -> ComputeTime:
    """A share of the peak that was measured (`mfu`) holds the operators' bytes already."""
    peak = gpu.peak(precision)
    memory = roofline_seconds(demand, peak=peak, bandwidth=gpu.memory_bandwidth) if mfu is None else 0.0
    return ComputeTime(
        products=compute_seconds(demand.flops, peak=peak, mfu=mfu or ASSUMED_MFU[precision]),
        memory=memory,
        calls=demand.calls * CALL_SECONDS,
    )


def step_time(
    footprint: Footprint, work: Work, layout: Layout, machines: Machines, *, precision: str, mfu: float | None
) -> StepTime:
    demand = demand_of(work, micro_batch=layout.micro_batch, micro_batches=layout.micro_batches)
    computing = compute_time(demand, machines.gpu, precision=precision, mfu=mfu)
    share = footprint.trainable / (layout.ranks if layout.zero_stage else 1)
    optimizer = optimizer_bytes(share) / machines.gpu.memory_bandwidth
    communication = traffic(footprint, layout) / machines.bandwidth
    return StepTime(computing=computing, communication=communication, optimizer=optimizer)


def optimizer_bytes(parameters: float) -> float:
    """AdamW reads weight, gradient and two moments, and writes all but the gradient."""
    return 7 * FLOAT * parameters


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
