"""What the predicted future frame is compared with."""

from collections.abc import Sequence
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lapa.config.latent_action import FeatureTarget, PixelTarget, TargetConfig
from lapa.errors import ConfigError, MissingDependency
from lapa.models.latent_action.global_motion import motion_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PixelLoss:
    """Mean squared error over all pixels, or more of it over those that move."""

    def __init__(self, config: PixelTarget) -> None:
        self._motion_mask = config.motion_mask

    def __call__(
        self,
        predicted: Float[Tensor, "b c h w"],
        future: Float[Tensor, "b c h w"],
        current: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, ""]:
        if not self._motion_mask:
            return F.mse_loss(predicted.float(), future)
        with torch.autocast(future.device.type, enabled=False):
            weights = motion_weights(current, future, self._motion_mask)
        return (weights * (predicted.float() - future).square()).mean()


class FeatureLoss:
    """Mean squared error on the features of a frozen vision encoder, beside a share of the pixels.

    The encoder is no part of the model: it is neither trained, saved nor sharded.
    """

    def __init__(self, config: FeatureTarget) -> None:
        self._config = config
        self._encoder: Any = None

    def __call__(
        self,
        predicted: Float[Tensor, "b c h w"],
        future: Float[Tensor, "b c h w"],
        current: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, ""]:
        predicted = predicted.float()
        with torch.no_grad():
            wanted = self._features(future)
        features = F.mse_loss(self._features(predicted), wanted)
        if self._config.relative:
            features = features / wanted.var().clamp(min=torch.finfo(wanted.dtype).tiny)
        return self._config.feature_weight * features + self._config.pixel_weight * F.mse_loss(predicted, future)

    def _features(self, images: Tensor) -> Tensor:
        if self._encoder is None:
            self._encoder = _load_encoder(self._config.encoder, images.device)
        mean = images.new_tensor(IMAGENET_MEAN)[:, None, None]
        std = images.new_tensor(IMAGENET_STD)[:, None, None]
        layer = self._config.layer
        output = self._encoder(pixel_values=(images - mean) / std, output_hidden_states=layer is not None)
        return (output.last_hidden_state if layer is None else self._hidden_state(output.hidden_states, layer)).float()

    def _hidden_state(self, states: Sequence[Tensor], layer: int) -> Tensor:
        if not -len(states) <= layer < len(states):
            raise ConfigError(
                f"laq.model.target.layer={layer} is no hidden state of {self._config.encoder!r}, which has "
                f"{len(states)}; choose one from {-len(states)} to {len(states) - 1}"
            )
        return states[layer]


def _load_encoder(name: str, device: torch.device) -> Any:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise MissingDependency("target kind 'features' needs transformers; install lapa[train].") from error
    try:
        encoder = AutoModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"target encoder {name!r} cannot be loaded: {error}. Set laq.model.target.encoder to a Hugging Face vision "
            "model that this machine can reach, or to a local folder that holds one."
        ) from error
    # A third of the time of a convolutional encoder on processors; nothing to a transformer.
    return encoder.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def build_target(config: TargetConfig) -> PixelLoss | FeatureLoss:
    match config:
        case PixelTarget():
            return PixelLoss(config)
        case FeatureTarget():
            return FeatureLoss(config)
        case _:
            assert_never(config)
