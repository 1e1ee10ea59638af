"""Which machine this process runs on, in words that a reader of its numbers understands."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

SMI_SECONDS = 10
"""A driver in trouble may never answer; the name is not worth waiting for."""


def machine() -> str:
    """`Intel(R) Xeon(R) Processor, 2 cores`, and the kinds of GPU where there are some."""
    return ", ".join([_processor(), f"{os.cpu_count()} cores", *_gpus()])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    query = [smi, "--query-gpu=name", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=False, timeout=SMI_SECONDS)
    except subprocess.TimeoutExpired:
        return []
    return sorted({line.strip() for line in listed.stdout.splitlines()} - {""}) if listed.returncode == 0 else []
