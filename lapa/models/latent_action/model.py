"""The latent-action model: what changed between two frames, in a few discrete codes.

b batch, c h w images as they come, c H W at the model's size, k codes per frame pair, e latent width.
"""

from dataclasses import dataclass
from typing import Any, Protocol, assert_never

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapa.config.latent_action import (
    ConvolutionalArchitecture,
    LatentActionConfig,
    TransformerArchitecture,
)
from lapa.errors import CheckpointMismatch
from lapa.models.images import to_unit
from lapa.models.latent_action.convolutional import ConvolutionalDynamics
from lapa.models.latent_action.quantizers import build_quantizer
from lapa.models.latent_action.supervision import MotionHead
from lapa.models.latent_action.targets import build_target
from lapa.models.latent_action.transformer import TransformerDynamics
from lapa.models.storage import load_config, load_state
from lapa.types.batches import Batch, FramePair, Images

LATENT_ACTION_KIND = "latent-action"
"""`kind` of a model folder that holds one of these."""


@dataclass(frozen=True, kw_only=True)
class LatentActions:
    """Names of the changes in a batch of frame pairs."""

    codes: Int64[Tensor, "b k"]
    """Row-major over the code grid; the label."""
    vectors: Float[Tensor, "b k e"]
    """Before quantization."""


@dataclass(frozen=True, kw_only=True)
class LatentActionOutput:
    loss: Float[Tensor, ""]
    codes: Int64[Tensor, "b k"]
    vectors: Float[Tensor, "b k e"]
    """Before quantization."""
    quantized: Float[Tensor, "b k e"]
    """What the decoder saw; in evaluation mode the vectors of the codes."""
    motion: Float[Tensor, "b a"] | None
    """From the quantized vectors, where a motion head is there to learn it."""
    reconstruction: Float[Tensor, "b c h w"]
    """The predicted future frame in [0, 1]; from hard codes in evaluation mode."""
    future: Float[Tensor, "b c h w"]
    """What it is compared with, at the model's size, in [0, 1]."""
    current: Float[Tensor, "b c h w"]


class Dynamics(Protocol):
    """Both directions of one architecture; `observed` is the current frame as both of them need it."""

    def observe(self, current: Float[Tensor, "b c h w"]) -> Any: ...

    def infer(self, observed: Any, future: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k e"]: ...

    def predict(self, observed: Any, vectors: Float[Tensor, "b k e"]) -> Float[Tensor, "b c h w"]: ...


class LatentActionModel(nn.Module):
    """Inverse dynamics sees both frames and infers the latent action; forward dynamics sees only the
    current frame and the codes, and must predict the future frame (arXiv 2410.11758, section 3.1)."""

    def __init__(self, config: LatentActionConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = build_quantizer(config.quantizer, config.codes_per_pair)
        self.dynamics: Dynamics = _build_dynamics(config, self.quantizer.latent_width)
        self._target = build_target(config.target)
        self._adds_to_current = config.target.residual
        self.motion_head: MotionHead | None = None
        """For training with a few recorded actions; no part of a saved model."""

    def forward(self, pair: FramePair | Batch, seen: FramePair | None = None) -> LatentActionOutput:
        """Predict the future frame; with noise or straight-through gradients in training mode, from hard
        codes in evaluation mode. The encoder looks at `seen`, where that is given, instead of at `pair`."""
        assert pair.future is not None
        current, future = self._unit(pair.current), self._unit(pair.future)
        observed = self.dynamics.observe(current)
        if seen is None:
            latents = self.dynamics.infer(observed, future)
        else:
            latents = self.dynamics.infer(self.dynamics.observe(self._unit(seen.current)), self._unit(seen.future))
        quantized = self.quantizer(latents)
        predicted = self._image(current, self.dynamics.predict(observed, quantized.vectors))
        return LatentActionOutput(
            loss=self._target(predicted, future, current) + quantized.loss,
            codes=quantized.codes,
            vectors=latents,
            quantized=quantized.vectors,
            motion=None if self.motion_head is None else self.motion_head(quantized.vectors),
            reconstruction=predicted.clamp(0, 1),
            current=current,
            future=future,
        )

    @torch.no_grad()
    def encode(self, pair: FramePair) -> LatentActions:
        """Hard codes, without the decoder and without counting usage. Call it in evaluation mode."""
        assert not self.training, "encode names changes for others: call model.eval() first"
        observed = self.dynamics.observe(self._unit(pair.current))
        latents = self.dynamics.infer(observed, self._unit(pair.future))
        return LatentActions(codes=self.quantizer(latents).codes, vectors=latents)

    @torch.no_grad()
    def decode(self, current: Images, codes: Int64[Tensor, "b k"]) -> Float[Tensor, "b c H W"]:
        """The frame one window after `current`, had the change been `codes`; in [0, 1]."""
        unit = self._unit(current)
        predicted = self.dynamics.predict(self.dynamics.observe(unit), self.quantizer(codes=codes).vectors)
        return self._image(unit, predicted).clamp(0, 1)

    def _unit(self, images: Images) -> Float[Tensor, "b c H W"]:
        return to_unit(images, self.config.image_size)

    def _image(self, current: Tensor, predicted: Tensor) -> Tensor:
        return current + predicted if self._adds_to_current else predicted


def build_latent_action_model(config: LatentActionConfig) -> LatentActionModel:
    """With fresh weights, drawn from torch's default generator."""
    return LatentActionModel(config)


def load_latent_action_model(url: str) -> LatentActionModel:
    """The model in a folder that the `laq` stage wrote, on the CPU, in evaluation mode.

    CheckpointMismatch when the folder holds another kind of model or weights that do not fit its config.
    """
    config = LatentActionConfig.model_validate(load_config(url, LATENT_ACTION_KIND))
    model = build_latent_action_model(config)
    try:
        model.load_state_dict(load_state(url))
    except RuntimeError as error:
        raise CheckpointMismatch(f"{url} holds weights that its own config.json does not describe: {error}") from error
    return model.eval()


def _build_dynamics(config: LatentActionConfig, latent_width: int) -> TransformerDynamics | ConvolutionalDynamics:
    match config.architecture:
        case TransformerArchitecture():
            return TransformerDynamics(config, config.architecture, latent_width)
        case ConvolutionalArchitecture():
            return ConvolutionalDynamics(config, config.architecture, latent_width)
        case _:
            assert_never(config.architecture)
