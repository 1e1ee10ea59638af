"""Everything that decides what a vision-language-action model is, as one value."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lapa.config.base import Config
from lapa.config.vla import ActionHeadConfig, BackboneConfig
from lapa.models.vla.action_space import ActionSpace


class VlaSpec(Config):
    """Stored in the model folder; with the weights it rebuilds the model anywhere."""

    backbone: BackboneConfig
    codes_per_pair: int = Field(0, ge=0)
    """Codes of one latent action; 0 for a model without a latent head."""
    codebook_size: int = Field(0, ge=0)
    head: ActionHeadConfig | None = None
    actions: ActionSpace | None = None
    proprioception_dims: int = Field(0, ge=0)
    """0 for a policy that does not look at the robot's state."""
    proprioception_mean: tuple[float, ...] = ()
    proprioception_std: tuple[float, ...] = ()
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of the dataset's frames in [0, 1]; for backbones that have no statistics of their own."""
    image_std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    frame_size: int | None = None
    """Side of the frames in the dataset. Frames that a policy meets are brought to it as ingest did."""
    frame_resize: Literal["crop", "squash"] = "crop"

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if bool(self.codes_per_pair) != bool(self.codebook_size):
            raise ValueError("codes_per_pair and codebook_size come together: set both, or neither")
        if (self.head is None) != (self.actions is None):
            raise ValueError("an action head and the actions it decodes come together: set both, or neither")
        if not self.codes_per_pair and self.head is None:
            raise ValueError("a model without latent codes and without an action head predicts nothing")
        for name in ("proprioception_mean", "proprioception_std"):
            if len(getattr(self, name)) not in (0, self.proprioception_dims):
                raise ValueError(f"{name} must have proprioception_dims={self.proprioception_dims} numbers, or none")
        return self
