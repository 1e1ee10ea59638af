"""Runs on every rank: data-dependent initialization, counting, revival and validation under ZeRO-3.

Usage: check_laq_ranks.py FOLDER; each rank writes FOLDER/rank-N.json.
"""

import json
import sys
from pathlib import Path

import torch

from lapa.config.training import DeepSpeedEngineConfig
from lapa.models.latent_action.model import build_latent_action_model
from lapa.process import end_process
from lapa.training.engine import build_engine
from lapa.training.tasks.laq import LaqTask
from tests.training.laq import laq_config, moving_blocks


def main() -> None:
    config = laq_config()
    settings = DeepSpeedEngineConfig(zero_stage=3, bucket_bytes=20_000)
    engine = build_engine(lambda: build_latent_action_model(config.model), settings, config.fit, seed=0)
    task = LaqTask(config)
    findings: dict[str, object] = {}
    for step in range(10):
        torch.manual_seed(100 * step + engine.rank)
        batch, _ = moving_blocks(8, seed=10 * step + engine.rank)
        task.before_update(engine, [batch])
        engine.backward(task.losses(engine, batch)["total"])
        engine.update()
        codebook = engine.model.quantizer.codebook  # type: ignore[union-attr]
        if step == 0:
            findings["start"] = engine.gathered(codebook).tolist()  # type: ignore[arg-type]
            engine.overwrite_rows(codebook, torch.arange(1, 4), torch.full((3, 4), 1000.0))  # type: ignore[arg-type]
            engine.model.quantizer.usage.zero_()  # type: ignore[union-attr, operator]
            engine.model.quantizer.pending_usage.zero_()  # type: ignore[union-attr, operator]
        if step == 8:
            task.after_update(engine)
            findings["usage_before_revival"] = int(engine.model.quantizer.usage.sum())  # type: ignore[union-attr, operator, arg-type]
        elif step:
            findings["revived"] = task.after_update(engine).get("revived_codes")
    findings["codebook"] = engine.gathered(codebook).tolist()  # type: ignore[arg-type]
    engine.model.eval()
    with torch.no_grad():
        held_out, _ = moving_blocks(8, seed=50 + engine.rank)
        findings["metrics"] = task.validate(engine, [held_out])
    (Path(sys.argv[1]) / f"rank-{engine.rank}.json").write_text(json.dumps(findings))
    engine.close()


if __name__ == "__main__":
    main()
    end_process(0)
