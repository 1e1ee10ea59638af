"""Trains the toy in a process of its own, so that tests can kill it.

Usage: train_toy.py ENGINE FOLDER STEPS [--kill-at STEP] [--term-at STEP] [--blows FILE]; ENGINE is torch or a ZeRO
stage. FILE lists signals that ranks send themselves, each once in the life of FOLDER: see `Blow`.
"""

import argparse
import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lapa.config.training import CosineSchedule, DeepSpeedEngineConfig, TorchEngineConfig
from lapa.process import end_process
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import build_engine
from lapa.training.fit import fit
from lapa.training.hooks import StepReport
from tests.training.toy import Losses, ToyModel, ToyTask, fit_config, held_out, stream


class Blow(NamedTuple):
    """A signal to one rank, some seconds after it reported a step: in the middle of whatever it does then."""

    step: int
    rank: int
    signal: int
    delay_seconds: float


def strike(blows: Sequence[Blow], folder: Path, *, step: int, rank: int) -> None:
    """Send the signals that are due, unless they were sent before a restart."""
    for number, blow in enumerate(blows):
        marker = folder / f"blow-{number:03d}"
        if (blow.step, blow.rank) == (step, rank) and not marker.exists():
            marker.touch()
            threading.Timer(blow.delay_seconds, os.kill, (os.getpid(), blow.signal)).start()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--term-at", type=int)
    parser.add_argument("--blows", type=Path)
    args = parser.parse_args()
    blows = [Blow(*blow) for blow in json.loads(args.blows.read_text())] if args.blows else []

    def react(report: StepReport) -> None:
        if report.step == args.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if report.step == args.term_at:
            os.kill(os.getpid(), signal.SIGTERM)
        strike(blows, args.folder, step=report.step, rank=engine.rank)

    config = fit_config(steps=args.steps, ema_decay=0.9, schedule=CosineSchedule(warmup_steps=3))
    kind = (
        TorchEngineConfig()
        if args.engine == "torch"
        else DeepSpeedEngineConfig(zero_stage=int(args.engine), bucket_bytes=20_000)
    )
    engine = build_engine(lambda: ToyModel(noise=0.1), kind, config, seed=5)
    hook = Losses(args.folder / f"losses-{engine.rank}.jsonl", react)
    checkpoints = Checkpoints(str(args.folder / "checkpoints"), 2, {"name": "toy"})
    batches = stream(engine.rank, engine.world_size)
    fit(ToyTask(), engine, batches, held_out, config, checkpoints, [hook], seed=5)
    engine.close()


if __name__ == "__main__":
    main()
    end_process(0)
