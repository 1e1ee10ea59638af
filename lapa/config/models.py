"""Latent-action models by name. No torch here: a preset is a value."""

from lapa.config.latent_action import (
    ConvolutionalArchitecture,
    LatentActionConfig,
    NsvqConfig,
    PixelTarget,
    PublishedRevivalConfig,
    RevivalConfig,
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


def tabletop_model(*, width: int = 32, image_size: int = 48) -> LatentActionConfig:
    """Our defaults for small frames on small machines."""
    return LatentActionConfig(
        image_size=image_size,
        codes_per_pair=2,
        architecture=ConvolutionalArchitecture(width=width),
        quantizer=NsvqConfig(width=8, revival=RevivalConfig(every=100)),
        target=PixelTarget(residual=True),
    )


def tabletop_paper_model(*, width: int = 64, image_size: int = 48) -> LatentActionConfig:
    """The published recipe for small frames: its layout, its codebook's start and revival, its target; fewer, narrower
    layers."""
    return LatentActionConfig(
        image_size=image_size,
        codes_per_pair=4,
        architecture=TransformerArchitecture(
            patch_size=12, width=width, spatial_depth=2, temporal_depth=2, decoder_depth=2, heads=4, head_width=16,
            released_layout=True,
        ),
        quantizer=NsvqConfig(width=8, initialization="normal", revival=PublishedRevivalConfig()),
    )  # fmt: skip
