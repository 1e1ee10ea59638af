"""GPU types by name: what their makers state, dense (without sparsity), at the boost clock.

Sources: NVIDIA's data sheets "H100 Tensor Core GPU", "H200 Tensor Core GPU", "A100 Tensor Core GPU", "L40S", "L4",
"A10", "HGX B200"; for the GeForce RTX 4090 the "Ada GPU Architecture" whitepaper, appendix A. Where a sheet states
tensor numbers with sparsity alone, half of them is dense. Sizes are the sheets' gigabytes, 10**9 bytes.
"""

from dataclasses import dataclass

from lapa.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Gpu:
    name: str
    memory_bytes: float
    bf16_flops: float
    """Tensor cores, fp32 accumulation, per second."""
    fp32_flops: float
    """Without tensor cores: nothing here turns TF32 on."""
    memory_bandwidth: float
    """Bytes per second."""
    link_bandwidth: float
    """Bytes per second, one direction, to the other GPUs of its node."""

    def peak(self, precision: str) -> float:
        return self.bf16_flops if precision == "bf16" else self.fp32_flops


def _gpu(name: str, gigabytes: float, bf16: float, fp32: float, bandwidth: float, link: float) -> Gpu:
    """TFLOP/s, TB/s, GB/s: as data sheets write them."""
    return Gpu(
        name=name,
        memory_bytes=gigabytes * 1e9,
        bf16_flops=bf16 * 1e12,
        fp32_flops=fp32 * 1e12,
        memory_bandwidth=bandwidth * 1e12,
        link_bandwidth=link * 1e9,
    )


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("B200", 180, 2250, 75, 7.7, 900),
        _gpu("H200", 141, 989, 67, 4.8, 450),
        _gpu("H100", 80, 989, 67, 3.35, 450),
        _gpu("H100-PCIE", 80, 756, 51, 2.0, 64),
        _gpu("A100-80GB", 80, 312, 19.5, 2.0, 300),
        _gpu("A100-40GB", 40, 312, 19.5, 1.6, 300),
        _gpu("L40S", 48, 362, 91.6, 0.864, 32),
        _gpu("L4", 24, 121, 30.3, 0.3, 32),
        _gpu("A10", 24, 125, 31.2, 0.6, 32),
        _gpu("RTX-4090", 24, 165, 82.6, 1.0, 32),
    )
}


def find_gpu(name: str) -> Gpu:
    """Whatever its case. ConfigError for an unknown name."""
    known = {key.lower(): gpu for key, gpu in GPUS.items()}
    if (gpu := known.get(name.lower())) is None:
        raise ConfigError(f"--gpu {name}: no such type is known. Choose one of {', '.join(GPUS)}")
    return gpu
