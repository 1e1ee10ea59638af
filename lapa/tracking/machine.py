"""Which machine this process runs on, in words that a reader of its numbers understands."""

import platform
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from lapa.process import available_cores

SMI_SECONDS = 10
"""A driver in trouble may never answer; the name is not worth waiting for."""


def machine_words() -> str:
    """`Intel(R) Xeon(R) Processor, 16 cores, 8 x NVIDIA H100 80GB HBM3`: the cores that this process may use, and the
    node's GPUs where there are some."""
    return ", ".join([_processor(), f"{available_cores()} cores", *_gpus()])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    names = Counter(line.strip() for line in _said([smi, "--query-gpu=name", "--format=csv,noheader"]).splitlines())
    return [f"{count} x {name}" for name, count in sorted(names.items()) if name]


def _said(command: list[str]) -> str:
    """What a program wrote; nothing where it failed, or did not end in time.

    It is killed then and not waited for: a process that is stuck in a driver does not end.
    """
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return ""
    try:
        said, _ = process.communicate(timeout=SMI_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return ""
    return said if process.returncode == 0 else ""
