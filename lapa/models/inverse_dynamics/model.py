"""The supervised labeller: two frames in, the action between them out (VPT, arXiv 2206.11795).

b batch, c h w images as they come, c H W at the model's size, d channels, a action dimensions.
"""

from typing import Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from lapa.config.base import Config
from lapa.errors import CheckpointMismatch
from lapa.models.convolution import GroupNorm
from lapa.models.images import to_unit
from lapa.models.storage import load_config, load_state
from lapa.types.batches import FramePair, Images

INVERSE_DYNAMICS_KIND = "inverse-dynamics"
"""`kind` of a model folder that holds one of these."""


class InverseDynamicsSpec(Config):
    """Stored in the model folder; with the weights it rebuilds the model anywhere."""

    image_size: int
    width: int
    blocks: tuple[int, ...] = Field(min_length=1)
    action_names: tuple[str, ...] = Field(min_length=1)
    action_mean: tuple[float, ...]
    """Of the mean action between two frames, over the training episodes, in the robot's own units."""
    action_std: tuple[float, ...]
    """1 for a dimension that never varied."""

    @model_validator(mode="after")
    def _statistics_fit_the_actions(self) -> Self:
        if not len(self.action_names) == len(self.action_mean) == len(self.action_std):
            raise ValueError("action_names, action_mean and action_std must have one entry per action dimension")
        return self


class InverseDynamicsModel(nn.Module):
    """A residual network over the current frame and the change to the future one, as deep as ResNet-18.

    Group norm in place of its batch norm: a few robot episodes repeat the same scenes, and statistics of batches
    of them would not be those of the videos that the model is made to label.
    """

    def __init__(self, spec: InverseDynamicsSpec) -> None:
        super().__init__()
        self.spec = spec
        # The first convolution halves the frame, and there is no pooling after it: motion is a few pixels.
        layers: list[nn.Module] = [nn.Conv2d(6, spec.width, 5, stride=2, padding=2, bias=False), GroupNorm(spec.width)]
        layers.append(nn.ReLU())
        width = spec.width
        for group, blocks in enumerate(spec.blocks):
            for block in range(blocks):
                wider = spec.width << group
                layers.append(ResidualBlock(width, wider, stride=2 if group and not block else 1))
                width = wider
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.to_action = nn.Linear(width, len(spec.action_names))

    def forward(self, pair: FramePair) -> Float[Tensor, "b a"]:
        """The mean action between both frames, normalized."""
        current, future = self._unit(pair.current), self._unit(pair.future)
        joined = torch.cat((current - 0.5, 4 * (future - current)), dim=1)
        action: Tensor = self.to_action(self.layers(joined.contiguous(memory_format=torch.channels_last)))
        return action.float()

    @torch.no_grad()
    def predict(self, pair: FramePair) -> Float[Tensor, "b a"]:
        """The mean action between both frames, in the robot's own units."""
        normalized: Tensor = self(pair)
        return normalized * normalized.new_tensor(self.spec.action_std) + normalized.new_tensor(self.spec.action_mean)

    def normalize(self, actions: Float[Tensor, "b a"]) -> Float[Tensor, "b a"]:
        return (actions - actions.new_tensor(self.spec.action_mean)) / actions.new_tensor(self.spec.action_std)

    def _unit(self, images: Images) -> Float[Tensor, "b c H W"]:
        return to_unit(images, self.spec.image_size)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int, wider: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, wider, 3, stride=stride, padding=1, bias=False)
        self.first_norm = GroupNorm(wider)
        self.second = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.second_norm = GroupNorm(wider)
        is_same = stride == 1 and width == wider
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(width, wider, 1, stride=stride, bias=False)

    def forward(self, features: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d2 h2 w2"]:
        hidden = self.first_norm(self.first(features)).relu()
        hidden = self.second_norm(self.second(hidden))
        out: Tensor = (hidden + self.shortcut(features)).relu()
        return out


def load_inverse_dynamics_model(url: str) -> InverseDynamicsModel:
    """The model in a folder that the `laq` stage wrote, on the CPU, in evaluation mode.

    CheckpointMismatch when the folder holds another kind of model or weights that do not fit its config.
    """
    model = InverseDynamicsModel(InverseDynamicsSpec.model_validate(load_config(url, INVERSE_DYNAMICS_KIND)))
    try:
        model.load_state_dict(load_state(url))
    except RuntimeError as error:
        raise CheckpointMismatch(f"{url} holds weights that its own config.json does not describe: {error}") from error
    return model.eval()
