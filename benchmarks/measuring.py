"""What the benchmarks have in common: CPU seconds, the machine's own matrix-multiply peak, where numbers go."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parents[1]


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """CPU seconds of this process on a CPU, which other programs change least; time on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        call()
        torch.cuda.synchronize(device)
        return time.perf_counter() - started
    started = time.process_time()
    call()
    return time.process_time() - started


def in_turns(calls: Mapping[str, Callable[[], Any]], *, rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each. All take turns, so that what the machine does meanwhile meets them alike."""
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds_of(call, device))
            sys.stderr.write(f"round={number} side={name!r} seconds={found[name][-1]:.4f}\n")
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def gemm(device: torch.device, dtype: torch.dtype, side: int, *, times: int = 1) -> tuple[Callable[[], Any], float]:
    """A product of square matrices, made `times` times, and the operations of all of them."""
    left, right = torch.randn(side, side, device=device, dtype=dtype), torch.randn(side, side, device=device).to(dtype)

    def products() -> None:
        for _ in range(times):
            torch.mm(left, right)

    return products, times * 2.0 * side**3


def machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "commit": commit,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "gpu": gpu,
        "torch": torch.__version__,
    }


def parser_of(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the JSON; stdout by default")
    return parser


def write(result: Mapping[str, Any], out: Path | None) -> None:
    text = json.dumps({**result, **machine()}, indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
