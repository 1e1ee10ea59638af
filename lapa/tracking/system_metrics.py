"""How busy the machine is: CPU, memory, disk and GPUs, sampled by a thread.

MLflow's own monitor reads the global tracking URI and writes past the journal, so this one asks psutil
and pynvml itself and logs like everything else.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class SystemSampler:
    """Calls `report` with `system/...` numbers every `every_seconds`, until stopped."""

    def __init__(self, report: Callable[[dict[str, float]], None], *, every_seconds: float = 10.0) -> None:
        self._report, self._every = report, every_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lapa-system-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(1.0)

    def _work(self) -> None:
        try:
            import psutil
        except ImportError:
            logger.warning("system metrics off: psutil is not installed; pip install psutil")
            return
        gpus = _Gpus()
        process = psutil.Process()
        psutil.cpu_percent()
        while not self._stopped.wait(self._every):
            self._report(_host(psutil, process) | gpus.sample())


def _host(psutil: Any, process: Any) -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "system/cpu_percent": psutil.cpu_percent(),
        "system/memory_gib": (memory.total - memory.available) / 2**30,
        "system/memory_percent": memory.percent,
        "system/process_memory_gib": process.memory_info().rss / 2**30,
        "system/disk_percent": psutil.disk_usage("/").percent,
    }


class _Gpus:
    """Every NVIDIA GPU of this machine; none when there is no driver or no pynvml."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        try:
            import pynvml  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError:
            self._handles = []

    def sample(self) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for i, handle in enumerate(self._handles):
            try:
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                numbers[f"system/gpu{i}_memory_gib"] = memory.used / 2**30
                numbers[f"system/gpu{i}_percent"] = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                numbers[f"system/gpu{i}_watts"] = self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000
            except self._nvml.NVMLError:
                continue  # some of these are not offered under MIG
        return numbers
