"""Runs on every rank: data-parallel training that starts from a collapsed codebook, each rank with its own data.

Usage: check_collapsed_ranks.py FOLDER; each rank writes FOLDER/rank-N.json.
"""

import json
import sys
from pathlib import Path

import torch

from lapa.config.training import DeepSpeedEngineConfig
from lapa.models.latent_action.model import LatentActionModel, build_latent_action_model
from lapa.process import end_process
from lapa.training.engine import build_engine
from lapa.training.tasks.laq import LaqTask
from tests.training.laq import laq_config, moving_blocks


def main() -> None:
    config = laq_config()
    settings = DeepSpeedEngineConfig(zero_stage=1, bucket_bytes=20_000)
    engine = build_engine(lambda: build_latent_action_model(config.model), settings, config.fit, seed=0)
    task = LaqTask(config)
    model = engine.model
    assert isinstance(model, LatentActionModel)
    codebook = model.quantizer.codebook
    assert isinstance(codebook, torch.nn.Parameter)
    engine.overwrite_rows(codebook, torch.arange(4), torch.zeros(4, 4))
    model.quantizer.initialized.fill_(True)
    codebooks, revived, perplexities = [], 0.0, [perplexity(engine, task)]
    for step in range(60):
        torch.manual_seed(100 * step + engine.rank)
        batch, _ = moving_blocks(8, seed=10 * step + engine.rank)
        task.before_update(engine, [batch])
        engine.backward(task.losses(engine, batch)["total"])
        engine.update()
        revived += task.after_update(engine).get("revived_codes", 0.0)
        codebooks.append(codebook.detach().tolist())  # this rank's own copy
    perplexities.append(perplexity(engine, task))
    findings = {"codebooks": codebooks, "revived": revived, "perplexities": perplexities}
    (Path(sys.argv[1]) / f"rank-{engine.rank}.json").write_text(json.dumps(findings))
    engine.close()


def perplexity(engine, task: LaqTask) -> float:  # type: ignore[no-untyped-def]
    engine.model.eval()
    with torch.no_grad():
        metrics = task.validate(engine, [moving_blocks(32, seed=5000 + engine.rank)[0]])
    engine.model.train()
    return metrics["perplexity"]


if __name__ == "__main__":
    main()
    end_process(0)
