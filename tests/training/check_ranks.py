"""Runs on every rank: one ZeRO stage against the losses and states of the torch engine.

Usage: check_ranks.py STAGE FOLDER; FOLDER holds what `test_deepspeed.py` wrote with the torch engine.
Rank 0 writes FOLDER/findings.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.trainer import Synchronizations
from lapa.config.training import DeepSpeedEngineConfig
from lapa.errors import LossNotFinite
from lapa.process import end_process
from lapa.training.checkpoints import Checkpoints
from lapa.training.deepspeed_engine import DeepSpeedEngine
from lapa.training.engine import build_engine
from lapa.training.fit import fit
from tests.training.toy import BreaksAt, Losses, ToyModel, ToyTask, fit_config, global_batch, held_out, share, stream

STEPS = 8
SETTINGS = {"steps": STEPS, "ema_decay": 0.9, "micro_batch_size": 3, "checkpoint_every": 5}


def build(stage: int, **changes: object) -> DeepSpeedEngine:
    config = fit_config(**(SETTINGS | changes))
    engine = build_engine(
        ToyModel,
        DeepSpeedEngineConfig(zero_stage=stage, bucket_bytes=20_000),
        config,
        seed=5,  # type: ignore[arg-type]
    )
    assert isinstance(engine, DeepSpeedEngine)
    return engine


def train(engine: DeepSpeedEngine, url: str, **changes: object) -> dict[int, float]:
    waits: list[tuple[float, ...]] = []
    losses = Losses(react=lambda report: waits.append(report.data_wait_seconds))
    checkpoints = Checkpoints(url, 5, {})
    batches = stream(engine.rank, engine.world_size)
    config = fit_config(**(SETTINGS | changes))
    result = fit(ToyTask(), engine, batches, held_out, config, checkpoints, [losses], seed=5)
    assert result.metrics["rank"] == 0, "validation metrics must be rank 0's on every rank"
    seen = torch.tensor(waits)
    assert seen.shape == (len(losses.values), engine.world_size) and bool((seen > 0).all()), "every rank waits for data"
    assert torch.equal(engine.broadcast(seen), seen), "all ranks know how long each of them waited"
    return losses.values


def broken(engine: DeepSpeedEngine, url: str) -> dict[str, Any]:
    """How a run ends whose gradient, on the last rank alone, is no number in its fourth update, and which looks
    after its sixth."""
    start = engine.step
    changes = {"steps": start + 9, "checkpoint_every": 3, "log_every": 100, "validate_every": 100}
    config = fit_config(**(SETTINGS | changes))
    checkpoints = Checkpoints(url, 5, {})
    batches = stream(engine.rank, engine.world_size)
    try:
        fit(BreaksAt(start + 3, "gradient"), engine, batches, held_out, config, checkpoints, [], seed=5)
    except LossNotFinite as error:
        return {"start": start, "message": str(error), "newest": checkpoints.latest()}
    raise AssertionError("the run went on")


def main() -> None:
    stage, folder = int(sys.argv[1]), Path(sys.argv[2])
    engine = build(stage)
    findings: dict[str, object] = {}
    findings["losses"] = train(engine, str(folder / f"zero{stage}"))

    resumed = build(stage)
    findings["from_torch"] = train(resumed, str(folder / f"torch-for-zero{stage}"))

    batch = share(global_batch(0), engine.rank, engine.world_size)
    assert resumed.run(batch.to(resumed.device), method="hidden").shape == (batch.size, 24)
    weight = resumed.model.head.weight
    resumed.overwrite_rows(weight, torch.tensor([1, 4]), torch.full((2, 24), 2.0))
    gathered = resumed.gathered(weight)
    assert bool((gathered[[1, 4]] == 2).all()) and not bool((gathered[[0, 2]] == 2).any())
    moments = resumed.read("exp_avg", "words.weight")
    assert not bool(moments[[1, 4]].any()) and bool(moments[[0, 2]].any())
    loss = resumed.run(batch)
    with Synchronizations() as seen_by_host:
        resumed.backward(loss)
        resumed.update()
    assert seen_by_host.count == 0, "an update waits for the device"
    after = resumed.gathered(weight)
    assert bool((after != gathered).any()) and float((after - gathered).abs().max()) < 0.1, "values came back"
    state = resumed.full_state()
    assert bool(state) == (resumed.rank == 0)
    findings["broken"] = broken(resumed, str(folder / "broken"))
    if resumed.rank == 0:
        findings["keys"] = sorted(state)
        findings["tied"] = bool(torch.equal(state["head.weight"], state["words.weight"]))
        (folder / "findings.json").write_text(json.dumps(findings))
    engine.close()


if __name__ == "__main__":
    main()
    end_process(0)
