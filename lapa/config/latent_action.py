"""The latent-action model: what it sees, how it names a change, what it must reconstruct."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lapa.config.base import Config


class TransformerArchitecture(Config):
    """The paper's spatio-temporal transformer (arXiv 2410.11758, section 3.1 and appendix A)."""

    kind: Literal["transformer"] = "transformer"
    patch_size: int = 32
    width: int = 1024
    spatial_depth: int = 8
    temporal_depth: int = 8
    decoder_depth: int = 8
    heads: int = 16
    head_width: int = 64
    feedforward_multiplier: int = 4
    """GEGLU inner width is `int(multiplier * 2 / 3 * width)`."""
    causal_temporal: bool = False
    """Whether the first frame's tokens are kept from seeing the second frame."""
    released_layout: bool = False
    """Reproduce the released code's scrambled position layouts (temporal PEG and decoder code tokens), so
    that its weights load and mean the same. Never for new models."""


class ConvolutionalArchitecture(Config):
    """A small convolutional encoder and FiLM decoder, for small frames on small machines."""

    kind: Literal["convolutional"] = "convolutional"
    width: int = 64
    stem_stride: int = 4


LatentActionArchitecture = Annotated[TransformerArchitecture | ConvolutionalArchitecture, Field(discriminator="kind")]


class RevivalConfig(Config):
    """Codes that are hardly used are restarted from encoder outputs, for the whole run."""

    every: int = Field(100, gt=0)
    """Optimizer steps between checks; usage is counted over that span, over all ranks."""
    min_share: float = Field(0.02, ge=0, lt=1)
    """A code used less often than this share of all tokens is restarted."""


class PublishedRevivalConfig(Config):
    """The published schedule: steps 10..90 by 10, 100..900 by 100, 1000..4500 by 500, then never again."""

    kind: Literal["published"] = "published"
    min_share: float = 0.1


class NsvqConfig(Config):
    """Noise-substituted vector quantization: gradients reach the encoder through noise."""

    kind: Literal["nsvq"] = "nsvq"
    codebook_size: int = Field(8, gt=1)
    """Codebook entries; with 4 codes per frame pair, 8 entries spell 8**4 latent actions."""
    width: int = 32
    """Dimensions of one code vector."""
    initialization: Literal["normal", "data"] = "data"
    """`normal` is N(0, 1), as published; `data` draws the entries from the first batch's latents."""
    revival: RevivalConfig | PublishedRevivalConfig | None = RevivalConfig()


class VqEmaConfig(Config):
    """Vector quantization with straight-through gradients and an exponentially averaged codebook."""

    kind: Literal["vq_ema"] = "vq_ema"
    codebook_size: int = Field(8, gt=1)
    width: int = 32
    decay: float = Field(0.99, gt=0, lt=1)
    commitment_weight: float = 0.01
    """Of the latents' distance to their codes, beside the error of the frame. The published 0.25 stands beside an error
    in units of the data's variance; beside one of pixels, of a hundredth, it draws all latents into one point."""
    revival: RevivalConfig | None = RevivalConfig()


class FsqConfig(Config):
    """Finite scalar quantization (arXiv 2309.15505): no codebook, so none to collapse."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (4, 2)
    """Levels per dimension; their product is the number of codes."""


class NoQuantizerConfig(Config):
    """Continuous latents of a fixed width, for study: there are no codes to label with."""

    kind: Literal["none"] = "none"
    width: int = 32


class WithheldConfig(Config):
    """The decoder is told nothing: what the first frame alone predicts, the floor of every reconstruction error."""

    kind: Literal["withheld"] = "withheld"
    width: int = 8


QuantizerConfig = Annotated[
    NsvqConfig | VqEmaConfig | FsqConfig | NoQuantizerConfig | WithheldConfig, Field(discriminator="kind")
]


class PixelTarget(Config):
    """Mean squared error on the pixels of the future frame, in [0, 1]."""

    kind: Literal["pixels"] = "pixels"
    residual: bool = False
    """Predict the change from the current frame instead of the frame itself."""
    motion_mask: float = Field(0.0, ge=0, lt=1)
    """Share of the loss's weight that goes to where the frames differ, once the camera's own motion and the change of
    light are taken out; 0 weighs every pixel alike."""


class FeatureTarget(Config):
    """Mean squared error on the features of a frozen vision encoder, beside a share of the pixels."""

    kind: Literal["features"] = "features"
    encoder: str = "facebook/dinov2-base"
    """Hugging Face vision model: name or local path."""
    layer: int | None = None
    """Which of the encoder's `hidden_states`, as Hugging Face counts them: 0 what its embeddings give, -1 the last
    block's. Null is its `last_hidden_state`. Early ones hold where things are, late ones what they are."""
    residual: bool = False
    """Predict the change from the current frame instead of the frame itself."""
    relative: bool = False
    """Count the features' error in units of their variance, so that weights mean the same for every encoder."""
    feature_weight: float = Field(1.0, ge=0)
    pixel_weight: float = Field(0.1, ge=0)


TargetConfig = Annotated[PixelTarget | FeatureTarget, Field(discriminator="kind")]


class LatentActionConfig(Config):
    """Frame pair -> a few discrete codes -> future frame."""

    image_size: int = Field(256, ge=16)
    """Side of the square frames the model sees; frames of another size are resized on the device."""
    codes_per_pair: int = Field(4, gt=0)
    """How many codes name one change."""
    architecture: LatentActionArchitecture = TransformerArchitecture()
    quantizer: QuantizerConfig = NsvqConfig()
    target: TargetConfig = PixelTarget()

    @model_validator(mode="after")
    def _patches_tile_the_image(self) -> "LatentActionConfig":
        if isinstance(self.architecture, TransformerArchitecture) and self.image_size % self.architecture.patch_size:
            raise ValueError(
                f"patch_size={self.architecture.patch_size} does not divide image_size={self.image_size}; "
                "choose a divisor"
            )
        return self

    @property
    def codebook_size(self) -> int:
        """How many codes each position chooses from; 0 when latents are continuous."""
        match self.quantizer:
            case NsvqConfig() | VqEmaConfig():
                return self.quantizer.codebook_size
            case FsqConfig():
                size = 1
                for levels in self.quantizer.levels:
                    size *= levels
                return size
            case NoQuantizerConfig() | WithheldConfig():
                return 0
