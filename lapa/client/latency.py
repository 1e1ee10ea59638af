"""How long robots wait for actions: a number of clients that ask as fast as they are answered."""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapa.client.connection import PolicyClient, Reconnect, ServerRefused

WARMUP = 2
"""Answers of each client that do not count."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Of one number of clients. Milliseconds are the client's own, from observation to action."""

    clients: int
    answers: int
    refused: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    longest_ms: float
    answers_per_second: float
    server_infer_p50_ms: float
    """Of which the model took this much."""
    mean_batch: float


def measure_latency(
    url: str, *, token: str | None, clients: int, requests: int, image_side: int = 224, instruction: str = "push"
) -> Latency:
    """Each client sends `requests` observations one after the other, all at once. ServerAway, ServerRefused."""
    with PolicyClient(url, token=token) as first:
        state_dims = int(first.metadata.get("proprioception_dims", 0))
    robots = [_Robot(url, token, number, requests, image_side, instruction, state_dims) for number in range(clients)]
    start = threading.Barrier(clients + 1)
    threads = [threading.Thread(target=robot.run, args=(start,), daemon=True) for robot in robots]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):  # a robot failed, and says why below
        start.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    for robot in robots:
        if robot.error is not None:
            raise robot.error
    return _summary(robots, seconds)


class _Robot:
    """One client in a thread of its own."""

    def __init__(
        self, url: str, token: str | None, number: int, requests: int, side: int, instruction: str, state_dims: int
    ) -> None:
        rng = np.random.default_rng(number)
        self.image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        self.state = np.zeros(state_dims, dtype=np.float32) if state_dims else None
        self.instruction, self.requests = instruction, requests
        self.client = PolicyClient(url, token=token, reconnect=Reconnect(seconds=30))
        self.waits: list[float] = []
        self.timings: list[dict[str, Any]] = []
        self.refused = 0
        self.error: Exception | None = None

    def run(self, start: threading.Barrier) -> None:
        try:
            with self.client:
                for _ in range(WARMUP):
                    self.client.infer(self.image, self.instruction, self.state)
                start.wait()
                for _ in range(self.requests):
                    self._ask()
        except Exception as error:
            self.error = error
            start.abort()

    def _ask(self) -> None:
        began = time.perf_counter()
        try:
            answer = self.client.infer(self.image, self.instruction, self.state)
        except ServerRefused as refusal:
            if refusal.reason not in ("overloaded", "deadline"):
                raise
            self.refused += 1
            return
        self.waits.append(time.perf_counter() - began)
        self.timings.append(answer.timing)


def _summary(robots: Sequence[_Robot], seconds: float) -> Latency:
    waits = np.array([wait for robot in robots for wait in robot.waits]) * 1000
    timings = [timing for robot in robots for timing in robot.timings]
    p50, p90, p99, longest = np.percentile(waits, [50, 90, 99, 100]) if len(waits) else [float("nan")] * 4
    return Latency(
        clients=len(robots),
        answers=len(waits),
        refused=sum(robot.refused for robot in robots),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        longest_ms=float(longest),
        answers_per_second=len(waits) / seconds,
        server_infer_p50_ms=float(np.median([timing["infer_ms"] for timing in timings])) if timings else float("nan"),
        mean_batch=float(np.mean([timing["batch"] for timing in timings])) if timings else float("nan"),
    )
