"""What this environment can train with, as JSON on stdout; `lapactl doctor` reads it."""

import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch

from lapa.config.run import RunConfig

PACKAGES = ("torch", "deepspeed", "transformers", "peft", "mlflow", "s3fs", "av", "pymunk", "opencv-python-headless")


def main(run: RunConfig | None = None, arguments: Sequence[str] = ()) -> None:
    """Print versions, devices and threads."""
    sys.stdout.write(json.dumps({"packages": _versions(), "devices": _devices(), "cpu": _cpu()}) + "\n")


def _versions() -> dict[str, str | None]:
    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in PACKAGES}


def _devices() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [
        {"name": device.name, "memory_bytes": device.total_memory, "bf16": torch.cuda.is_bf16_supported()}
        for device in found
    ]


def _cpu() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gloo": torch.distributed.is_available() and torch.distributed.is_gloo_available(),
    }
