"""What limits a run, and the trace that shows it."""

import gzip
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lapa.config.training import TorchEngineConfig
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import build_engine
from lapa.training.fit import fit
from lapa.training.profiling import ProfileHook, merged, overlap, phase, shares_of, without
from tests.training.toy import ToyModel, ToyTask, fit_config, held_out, stream


def event(name: str, start: float, end: float, device: str = "DeviceType.CPU"):
    span = SimpleNamespace(start=1e6 * start, end=1e6 * end)
    return SimpleNamespace(name=name, time_range=span, device_type=device)


def profiled_while_data_is_slow(folder: Path) -> tuple[str | None, dict[str, float], list[dict]]:
    """Line, numbers and traces of a profile through the real loop."""
    logged: dict[str, float] = {}
    traces: list[dict] = []
    hook = ProfileHook(
        steps=3,
        after=1,
        device=torch.device("cpu"),
        tracker=SimpleNamespace(log_metrics=lambda metrics, step: logged.update(metrics)),
        keep=lambda trace: traces.append(json.loads(gzip.decompress(trace.read_bytes()))),
        scratch=folder,
    )

    def slow(step: int):
        for batch in stream()(step):
            time.sleep(0.2)  # the disk that this run is limited by
            yield batch

    config = fit_config(steps=8)
    engine = build_engine(ToyModel, TorchEngineConfig(device="cpu", threads=1), config, seed=0)
    fit(ToyTask(), engine, slow, held_out, config, Checkpoints(str(folder / "kept"), 1, {}), [hook], seed=0)
    return hook.line, logged, traces


def test_a_run_that_waits_for_batches_is_limited_by_data(tmp_path):
    """On a busy machine a step may be kept from running for longer than it waits: then another profile tells."""
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        line, logged, traces = profiled_while_data_is_slow(folder)
        if logged["profile/data"] > 0.5:
            break
    assert logged["profile/data"] > 0.5
    assert line is not None and line.startswith("limited by data")
    assert {"profile/forward", "profile/backward", "profile/optimizer", "profile/communication"} <= set(logged)
    (trace,) = traces
    assert sum(entry.get("name") == "lapa: data" and entry.get("ph") == "X" for entry in trace["traceEvents"]) == 3


def test_phases_cost_nothing_while_nobody_looks():
    started = time.process_time()
    for _ in range(10_000):
        with phase("forward"):
            pass
    assert (time.process_time() - started) / 10_000 < 100e-6


def test_waiting_for_other_ranks_counts_as_communication():
    events = [
        event("lapa: backward", 0.0, 6.0),
        event("gloo:all_reduce", 1.0, 5.0),
        event("c10d::allreduce_", 0.9, 1.1),
        event("lapa: data", 6.0, 7.0),
    ]
    shares = shares_of({"backward": 6.0, "data": 1.0}, events, seconds=10.0, steps=2)
    assert shares.communication == pytest.approx(0.41)
    assert shares.phases["backward"] == pytest.approx(0.19)
    assert shares.limit == "communication"
    said = "limited by communication (41% of 5 s a step, over 2 steps): data 10%, compute 19%, communication 41%"
    assert shares.line().startswith(said)


def test_collectives_behind_computation_limit_nothing():
    events = [
        event("lapa: backward", 0.0, 8.0),
        event("ncclDevKernel_ReduceScatter", 1.0, 5.0, "DeviceType.CUDA"),
        event("gemm", 0.0, 4.0, "DeviceType.CUDA"),
    ]
    shares = shares_of({"backward": 8.0}, events, seconds=10.0, steps=1)
    assert shares.communication == pytest.approx(0.1)
    assert shares.limit == "compute"


def test_spans_are_added_and_taken_away():
    assert merged([(3, 4), (0, 2), (1, 3)]) == [(0, 4)]
    assert without([(0, 10)], [(2, 3), (5, 12)]) == [(0, 2), (3, 5)]
    assert overlap([(0, 4)], [(3, 6)]) == 1
