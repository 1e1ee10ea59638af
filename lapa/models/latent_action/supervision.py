"""A few recorded actions help latents to mean motion (as in LAOM, arXiv 2502.00379): a training-time head.

b batch, k codes per frame pair, e latent width, a action dimensions.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MotionHead(nn.Module):
    """A linear map from latents to the motion between both frames, in standard deviations.

    It reads what the decoder reads, the quantized vectors: gradients reach the encoder through the quantizer's own
    estimate, and since the regression suffers from quantization error too, it is the codes that must hold the
    motion, not merely the latents before them. Linear, so that the latents do the work.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: int, *, mean: Float[Tensor, " a"], std: Float[Tensor, " a"], told_share: float) -> None:
        """`inputs` is k times e; `told_share` how many of all pairs come with their motion."""
        super().__init__()
        self.to_motion = nn.Linear(inputs, len(mean))
        self.told_share = told_share
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, vectors: Float[Tensor, "b k e"]) -> Float[Tensor, "b a"]:
        motion: Tensor = self.to_motion(vectors.flatten(1))
        return motion

    def loss(self, predicted: Float[Tensor, "b a"], motion: Float[Tensor, "b a"]) -> Float[Tensor, ""]:
        """Mean squared error over the pairs whose motion is told (no NaN), in variances.

        Divided by how many of a batch are told on average, not by how many of this one are: every told pair then
        weighs the same, however batches fall and however they are cut over ranks and micro batches.
        """
        told = ~motion.isnan().any(-1)
        wanted = torch.where(told[:, None], (motion - self.mean) / self.std, 0.0)
        errors = (predicted.float() - wanted).square().mean(-1) * told
        return errors.sum() / (len(motion) * self.told_share)
