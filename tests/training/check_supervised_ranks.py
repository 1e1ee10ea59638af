"""Runs on every rank: a motion head under ZeRO-3, where only rank 0 ever sees told pairs.

Usage: check_supervised_ranks.py FOLDER; each rank writes FOLDER/rank-N.json.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lapa.config.stages import ActionSupervision, FrameAugmentation
from lapa.config.training import DeepSpeedEngineConfig
from lapa.data.motion import MotionStatistics
from lapa.models.latent_action.model import build_latent_action_model
from lapa.process import end_process
from lapa.stages.laq import with_motion_head
from lapa.training.engine import build_engine
from lapa.training.tasks.laq import LaqTask
from tests.training.laq import MOVES, laq_config, moving_blocks


def main() -> None:
    config = laq_config().model_copy(
        update={"supervision": ActionSupervision(share=0.5), "augmentation": FrameAugmentation(brightness=0.1)}
    )
    motion = MotionStatistics(mean=np.zeros(2, np.float32), std=np.full(2, 2.0, np.float32), share=0.5)
    settings = DeepSpeedEngineConfig(zero_stage=3, bucket_bytes=20_000)
    engine = build_engine(
        lambda: with_motion_head(build_latent_action_model(config.model), motion), settings, config.fit, seed=0
    )
    task = LaqTask(config)
    losses = []
    for step in range(80):
        torch.manual_seed(100 * step + engine.rank)
        batch, moves = moving_blocks(8, seed=10 * step + engine.rank)
        told = torch.from_numpy(MOVES[moves]).float()
        batch = replace(batch, motion=told if engine.rank == 0 else torch.full_like(told, torch.nan))
        task.before_update(engine, [batch])
        parts = task.losses(engine, batch)
        engine.backward(parts["total"])
        engine.update()
        task.after_update(engine)
        losses.append(float(engine.reduce_mean(parts["motion"].detach())))
    engine.model.eval()
    with torch.no_grad():
        held_out, _ = moving_blocks(8, seed=50 + engine.rank)
        metrics = task.validate(engine, [held_out])
    head = {name: parameter for name, parameter in engine.model.named_parameters() if name.startswith("motion_head.")}
    findings = {
        "motion_loss": losses,
        "metrics": metrics,
        "head": {name: engine.gathered(parameter).tolist() for name, parameter in head.items()},
        "names": sorted(head),
    }
    (Path(sys.argv[1]) / f"rank-{engine.rank}.json").write_text(json.dumps(findings))
    engine.close()


if __name__ == "__main__":
    main()
    end_process(0)
