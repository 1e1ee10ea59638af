"""The vision-language-action model: a backbone, a small vocabulary of latent actions, an action head."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lapa.config.base import Config


class LoraConfig(Config):
    """Low-rank adapters (through peft) instead of training the language model's own weights."""

    rank: int = Field(16, gt=0)
    alpha: int = 32
    """Scale of the adapters, relative to their rank."""
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    """Names of the linear layers to adapt; every linear layer of the language model when empty."""


class HuggingFaceBackbone(Config):
    """Any image-text-to-text model of the transformers library."""

    kind: Literal["huggingface"] = "huggingface"
    model: str = "HuggingFaceTB/SmolVLM-500M-Instruct"
    """Hub name or local directory."""
    revision: str | None = None
    weights: Literal["pretrained", "random"] = "pretrained"
    """`random` builds the model from its config alone."""
    freeze_vision: bool = True
    """The paper freezes the vision encoder and trains the language model."""
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False
    prompt: str = "What action should the robot take to `{instruction}`?"
    max_instruction_tokens: int = Field(64, gt=0)
    """Longer instructions are shortened; targets never are."""

    @model_validator(mode="after")
    def _adapters_leave_the_rest_frozen(self) -> "HuggingFaceBackbone":
        if self.lora and not self.freeze_vision:
            raise ValueError(
                "lora trains its adapters alone, so freeze_vision=false would be ignored; "
                "set freeze_vision to true, or lora to null"
            )
        return self


class ConvolutionalBackbone(Config):
    """A small FiLM network with spatial softmax, for small frames on small machines."""

    kind: Literal["convolutional"] = "convolutional"
    image_size: int = Field(48, ge=16)
    width: int = 40
    stem_stride: int = 4
    blocks: int = 3
    keypoints: int = 32
    hidden: int = 256
    vocabulary: int = 1024
    """Hash buckets for words of the instruction."""


BackboneConfig = Annotated[HuggingFaceBackbone | ConvolutionalBackbone, Field(discriminator="kind")]


class BinnedHead(Config):
    """The paper's head: equal-frequency bins fitted on the finetuning data, one token per dimension."""

    kind: Literal["binned"] = "binned"
    bins: int = Field(256, gt=1)
    horizon: int = Field(1, gt=0)
    """Actions per chunk."""
    decode: Literal["argmax", "mean"] = "argmax"
    """Middle of the likeliest bin, or the expected value over all bins."""


class L1Head(Config):
    """Regresses a chunk of normalized actions with an L1 loss (as OpenVLA-OFT does)."""

    kind: Literal["l1"] = "l1"
    horizon: int = Field(8, gt=0)


class FlowHead(Config):
    """Flow matching over a chunk of normalized actions (as pi0 does)."""

    kind: Literal["flow"] = "flow"
    horizon: int = Field(8, gt=0)
    integration_steps: int = Field(10, gt=0)
    width: int = 256


ActionHeadConfig = Annotated[BinnedHead | L1Head | FlowHead, Field(discriminator="kind")]
