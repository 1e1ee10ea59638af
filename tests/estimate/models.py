"""Models for the tests of estimates: small, and of the real architecture."""

from lapa.config.latent_action import LatentActionConfig, NsvqConfig, TransformerArchitecture


def small_latent_action() -> LatentActionConfig:
    """4.5 million parameters."""
    return LatentActionConfig(
        image_size=32,
        architecture=TransformerArchitecture(
            patch_size=8, width=256, spatial_depth=3, temporal_depth=2, decoder_depth=2, heads=4, head_width=16
        ),
        quantizer=NsvqConfig(width=16, initialization="normal"),
    )
