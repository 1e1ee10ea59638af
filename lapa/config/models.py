"""Latent-action models by name. No torch here: a preset is a value."""

from lapa.config.latent_action import (
    LatentActionConfig,
    NsvqConfig,
    PublishedRevivalConfig,
    TransformerArchitecture,
)


def lapa_paper_model() -> LatentActionConfig:
    """The published model, 343,796,080 parameters: takes the released weights and means the same by them."""
    return LatentActionConfig(
        image_size=256,
        codes_per_pair=4,
        architecture=TransformerArchitecture(released_layout=True),
        quantizer=NsvqConfig(initialization="normal", revival=PublishedRevivalConfig()),
    )


def lapa_model() -> LatentActionConfig:
    """The published size with what the released code gets wrong put right: positions stay in place, the
    codebook starts from data, unused codes are revived for the whole run."""
    return LatentActionConfig()
