"""Trains a latent-action model on a real stream, and writes down what every rank saw.

Usage: train_elastic.py ENGINE FOLDER DATASET STEPS [--stop-at STEP]; ENGINE is torch or a ZeRO stage. With --stop-at
it is asked to go (SIGTERM) at that step, and ends well when it has saved. Rank r appends to FOLDER/losses-r.jsonl, and
to FOLDER/samples-r.jsonl the step and the (episode, timestep) of each of its samples.
"""

import argparse
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lapa.config.data import StreamConfig
from lapa.config.latent_action import NsvqConfig, RevivalConfig
from lapa.config.stages import FrameAugmentation, LaqConfig
from lapa.config.training import DeepSpeedEngineConfig, TorchEngineConfig
from lapa.data.dataset import Dataset
from lapa.data.stream import SampleSpec, training_batches, validation_batches
from lapa.models.latent_action.model import build_latent_action_model
from lapa.process import end_process
from lapa.training.checkpoints import Checkpoints
from lapa.training.engine import Engine, build_engine
from lapa.training.fit import fit
from lapa.training.hooks import StepReport
from lapa.training.signals import Interrupted
from lapa.training.tasks.laq import LaqTask
from lapa.types.batches import Batch
from tests.training.laq import laq_config
from tests.training.toy import Losses

BATCH_SIZE = 8
STREAM = StreamConfig(lanes=8, workers=0, shuffle_samples=16, validation_share=0.2)
SPEC = SampleSpec(window_seconds=0.3)


def config_of(steps: int) -> LaqConfig:
    """Noise, augmentation, codes that are restarted, an average: everything that is drawn or shared out."""
    config = laq_config(NsvqConfig(codebook_size=4, width=4, revival=RevivalConfig(every=4, min_share=0.2)))
    changes = {"steps": steps, "batch_size": BATCH_SIZE, "log_every": 1, "ema_decay": 0.9, "validate_every": 5}
    fit_config = config.fit.model_copy(update=changes | {"checkpoint_every": 1000, "checkpoint_seconds": None})
    return config.model_copy(update={"fit": fit_config, "augmentation": FrameAugmentation(shift=0.1, brightness=0.1)})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("steps", type=int)
    parser.add_argument("--stop-at", type=int)
    args = parser.parse_args()
    with suppress(Interrupted):
        train(args.engine, args.folder, args.dataset, args.steps, stop_at=args.stop_at)


def train(kind: str, folder: Path, dataset_url: str, steps: int, *, stop_at: int | None = None) -> None:
    config, dataset = config_of(steps), Dataset.open(dataset_url)
    settings = (
        TorchEngineConfig() if kind == "torch" else DeepSpeedEngineConfig(zero_stage=int(kind), bucket_bytes=20_000)
    )
    engine = build_engine(lambda: build_latent_action_model(config.model), settings, config.fit, seed=5)

    def react(report: StepReport) -> None:
        if report.step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def batches(step: int) -> Iterator[Batch]:
        share = training_batches(
            dataset, SPEC, STREAM, batch_size=BATCH_SIZE, seed=5, start_step=step,
            rank=engine.rank, world_size=engine.world_size,
        )  # fmt: skip
        return written_down(share, engine, folder)

    def held_out() -> Iterator[Batch]:
        return validation_batches(
            dataset, SPEC, STREAM, batch_size=BATCH_SIZE, rank=engine.rank, world_size=engine.world_size, max_batches=2
        )

    try:
        hook = Losses(folder / f"losses-{engine.rank}.jsonl", react)
        checkpoints = Checkpoints(str(folder / "checkpoints"), 2, {})
        fit(LaqTask(config), engine, batches, held_out, config.fit, checkpoints, [hook], seed=5)
    finally:
        engine.close()


def written_down(batches: Iterator[Batch], engine: Engine, folder: Path) -> Iterator[Batch]:
    for batch in batches:
        samples = list(zip(batch.episode.tolist(), batch.timestep.tolist(), strict=True))
        with (folder / f"samples-{engine.rank}.jsonl").open("a") as file:
            file.write(json.dumps([engine.step, samples]) + "\n")
        yield batch


if __name__ == "__main__":
    main()
    end_process(0)
