"""Blocks that move by a known action, and a small latent-action training over them."""

import numpy as np
import torch

from lapa.config.latent_action import (
    ConvolutionalArchitecture,
    LatentActionConfig,
    NsvqConfig,
    PixelTarget,
    QuantizerConfig,
    RevivalConfig,
)
from lapa.config.stages import HealthConfig, LaqConfig, ProbeGate
from lapa.config.training import FitConfig, OptimizerConfig
from lapa.types.batches import Batch

MOVES = np.array([(0, 3), (0, -3), (3, 0), (-3, 0)])


def laq_config(
    quantizer: QuantizerConfig | None = None, *, gate: ProbeGate | None = None, health: HealthConfig | None = None
) -> LaqConfig:
    return LaqConfig(
        model=LatentActionConfig(
            image_size=24,
            codes_per_pair=1,
            architecture=ConvolutionalArchitecture(width=16),
            quantizer=quantizer or NsvqConfig(codebook_size=4, width=4, revival=RevivalConfig(every=10)),
            target=PixelTarget(residual=True),
        ),
        fit=FitConfig(steps=100, batch_size=16, optimizer=OptimizerConfig(learning_rate=3e-3)),
        gate=gate,
        health=health or HealthConfig(),
    )


def moving_blocks(pairs: int, seed: int) -> tuple[Batch, np.ndarray]:
    """A batch, and the move of each pair as the index of MOVES."""
    random = np.random.default_rng(seed)
    moves = random.integers(len(MOVES), size=pairs)
    frames = np.full((2, pairs, 3, 24, 24), 40, np.uint8)
    for number, (row, column) in enumerate(random.integers(3, 13, size=(pairs, 2))):
        for frame, offset in zip(frames, (0 * MOVES[0], MOVES[moves[number]]), strict=True):
            top, left = row + offset[0], column + offset[1]
            frame[number, :, top : top + 8, left : left + 8] = 220
    batch = Batch(
        current=torch.from_numpy(frames[0]),
        future=torch.from_numpy(frames[1]),
        instructions=("",) * pairs,
        episode=torch.zeros(pairs, dtype=torch.int64),
        timestep=torch.arange(pairs),
    )
    return batch, moves
