"""A latent-action model small enough to be analysed in a test; its weights are random."""

from pathlib import Path

import torch

from lapa.analysis.records import Source
from lapa.config.latent_action import ConvolutionalArchitecture, LatentActionConfig, NsvqConfig
from lapa.models.latent_action.model import LATENT_ACTION_KIND, build_latent_action_model
from lapa.models.storage import model_digest, save_model

MODEL = LatentActionConfig(
    image_size=16,
    codes_per_pair=2,
    architecture=ConvolutionalArchitecture(width=8),
    quantizer=NsvqConfig(codebook_size=4, width=4, initialization="normal"),
)


def saved_model(folder: Path, config: LatentActionConfig) -> Source:
    torch.manual_seed(0)
    model = build_latent_action_model(config)
    save_model(folder, kind=LATENT_ACTION_KIND, config=config, state=model.state_dict())
    return Source(url=str(folder), digest=model_digest(str(folder)))
