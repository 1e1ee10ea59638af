"""What the trainer costs over the bare loop, in every engine mode, and how long the first ZeRO-3 step takes.

    python benchmarks/trainer.py [--width 256] [--steps 10] [--out FILE]

The bare loop calls the engine alone: forward, backward, update. The trainer is `fit` with the real task of stage `laq`;
both have batches at hand, log nothing and save nothing in the steps that count. They take turns step by step in one
engine, so that whatever the machine does besides meets both alike. CPU seconds, one rank, one thread.
"""

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from operator import truediv
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import REPOSITORY, parser_of, write
from lapa.config.latent_action import LatentActionConfig, NsvqConfig, TransformerArchitecture
from lapa.config.stages import HealthConfig, LaqConfig
from lapa.config.training import DeepSpeedEngineConfig, EngineConfig, FitConfig, TorchEngineConfig
from lapa.models.latent_action.model import build_latent_action_model
from lapa.process import end_process
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import Engine, build_engine
from lapa.training.fit import fit
from lapa.training.hooks import Hook
from lapa.training.tasks.laq import LaqTask
from lapa.types.batches import Batch

BATCH = 8
GOALS = {"overhead": 1.05, "first_step_cpu_seconds": 6.0, "synchronizations_per_step": 0}
MODES: dict[str, EngineConfig] = {
    "torch": TorchEngineConfig(device="cpu", threads=1),
    **{
        f"zero-{stage}": DeepSpeedEngineConfig(zero_stage=stage, device="cpu", threads=1, bucket_bytes=4_000_000)  # type: ignore[arg-type]
        for stage in (0, 1, 2, 3)
    },
}


def settings(width: int, steps: int) -> LaqConfig:
    architecture = TransformerArchitecture(
        patch_size=8, width=width, spatial_depth=3, temporal_depth=2, decoder_depth=2, heads=4, head_width=32
    )
    model = LatentActionConfig(
        image_size=64, architecture=architecture, quantizer=NsvqConfig(initialization="normal", revival=None)
    )
    fit_config = FitConfig(
        steps=steps, batch_size=BATCH, log_every=10**9, validate_every=10**9, checkpoint_every=10**9,
        checkpoint_seconds=None,
    )  # fmt: skip
    return LaqConfig(model=model, fit=fit_config, health=HealthConfig(on_collapse="warn"))


def some_batch(side: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 255, (2, BATCH, 3, side, side), generator=generator, dtype=torch.uint8)
    none = torch.zeros(BATCH, dtype=torch.int64)
    return Batch(current=frames[0], future=frames[1], instructions=("",) * BATCH, episode=none, timestep=none)


class Synchronizations(TorchDispatchMode):
    """Counts values that the host reads off a tensor: on a GPU each waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.count += 1
        return func(*args, **(kwargs or {}))


def bare_step(engine: Engine, batch: Batch) -> None:
    loss = engine.run(batch.to(engine.device).pair).loss
    engine.backward(loss)
    engine.update()


def measured(engine_config: EngineConfig, config: LaqConfig, pairs: int) -> dict[str, Any]:
    """Medians of bare steps and of the trainer's."""
    batch = some_batch(config.model.image_size)
    engine = build_engine(lambda: build_latent_action_model(config.model), engine_config, config.fit, seed=0)
    bare_step(engine, batch)
    bare, trained = in_turns(engine, config, batch, pairs)
    synchronizations = counted(engine, config, batch)
    engine.close()
    return {
        "bare_cpu_seconds": statistics.median(bare),
        "trainer_cpu_seconds": statistics.median(trained),
        "overhead": statistics.median(trained) / statistics.median(bare),
        "overhead_quartiles": statistics.quantiles(map(truediv, trained, bare), n=4),
        "synchronizations_per_step": synchronizations,
    }


def in_turns(engine: Engine, config: LaqConfig, batch: Batch, pairs: int) -> tuple[list[float], list[float]]:
    """CPU seconds of bare steps, and of the step of `fit` after each: from a batch to its asking for the next one."""
    bare: list[float] = []
    trained: list[float] = []

    def batches(_: int) -> Iterator[Batch]:
        while True:
            before = time.process_time()
            bare_step(engine, batch)
            between = time.process_time()
            yield batch
            bare.append(between - before)
            trained.append(time.process_time() - between)

    # The last pair is not among them: it ends with a checkpoint.
    goal = config.fit.model_copy(update={"steps": engine.step + 2 * (pairs + 1)})
    with tempfile.TemporaryDirectory() as folder:
        fit(LaqTask(config), engine, batches, list, goal, Checkpoints(folder, keep=1, resolved_run={}), [], seed=0)
    return bare, trained


def counted(engine: Engine, config: LaqConfig, batch: Batch) -> float:
    """Values that the trainer's steps read, per step; those of the bare engine (clipping, ZeRO) among them."""
    mode = Synchronizations()
    seen: list[int] = []

    class Count(Hook):
        def after_update(self, step: int) -> None:
            seen.append(mode.count)

    goal = config.fit.model_copy(update={"steps": engine.step + 6})
    with tempfile.TemporaryDirectory() as folder, mode:
        task, checkpoints = LaqTask(config), Checkpoints(folder, keep=1, resolved_run={})
        fit(task, engine, lambda _: itertools.repeat(batch), list, goal, checkpoints, [Count()], seed=0)
    return (seen[4] - seen[1]) / 3


def first_step(width: int) -> None:
    """A process that imports, builds a ZeRO-3 engine, makes one step and ends."""
    config = settings(width, 1)
    engine = build_engine(lambda: build_latent_action_model(config.model), MODES["zero-3"], config.fit, seed=0)
    bare_step(engine, some_batch(config.model.image_size))


def first_step_seconds(width: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--first-step", "--width", str(width)]
    subprocess.run(command, check=True, env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--modes", default=",".join(MODES), help="with commas")
    parser.add_argument("--first-step", action="store_true", help="only make a first ZeRO-3 step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.first_step:
        first_step(options.width)
        end_process(0)
    config = settings(options.width, options.steps)
    # First: engines tell this process's environment of a process group, which children would try to join.
    started = statistics.median(first_step_seconds(options.width) for _ in range(options.rounds))
    pairs = options.rounds * options.steps
    found = {name: measured(MODES[name], config, pairs) for name in options.modes.split(",")}
    result = {"width": options.width, "steps": options.steps, "rounds": options.rounds, "goals": GOALS}
    write({**result, "modes": found, "first_zero3_step_cpu_seconds": started}, options.out)
    end_process(0)


if __name__ == "__main__":
    main()
