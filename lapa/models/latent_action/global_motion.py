"""What the camera and the light did between two frames, and what is left when both are taken out.

b batch, c h w images in [0, 1].
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

REFINEMENTS = 3
NOISE = 2 / 255
"""Differences of this size are what video compression leaves; they are no motion."""
MOVING = 0.1
"""A difference from here on is something that moves by itself, however large it is."""


class GlobalMotion(NamedTuple):
    """future(x) is about gain * current(x - shift)."""

    shift: Float[Tensor, "b 2"]
    """Rows and columns, in pixels."""
    gain: Float[Tensor, " b"]


@torch.no_grad()
def motion_weights(
    current: Float[Tensor, "b c h w"], future: Float[Tensor, "b c h w"], share: float
) -> Float[Tensor, "b 1 h w"]:
    """Weight of every pixel in the loss: `1 - share` spread evenly, `share` to where frames differ for another
    reason than the camera's motion or the light. The mean is 1, but for pairs in which nothing moves."""
    explained = compensated(current, global_motion(current, future))
    difference = (future - explained).abs().mean(1, keepdim=True)
    difference = F.avg_pool2d(difference, 3, stride=1, padding=1, count_include_pad=False)
    difference = (difference - NOISE).clamp(min=0)
    return (1 - share) + share * difference / difference.mean((2, 3), keepdim=True).clamp(min=NOISE / 100)


@torch.no_grad()
def global_motion(current: Float[Tensor, "b c h w"], future: Float[Tensor, "b c h w"]) -> GlobalMotion:
    """One translation and one factor of brightness per frame pair.

    Two starts: no motion, and the whole pixels at which the phase correlation has its peak (that may be a moving
    thing's own); the one that leaves less unexplained is taken. From there, a few steps of least squares on the image
    gradients find parts of a pixel and the gain; pixels that fit badly count less and less.
    """
    first, second = current.float().mean(1), future.float().mean(1)  # b h w, grey
    gain = second.flatten(1).median(1).values / first.flatten(1).median(1).values.clamp(min=1e-3)
    rest = GlobalMotion(gain.new_zeros(len(gain), 2), gain.clamp(0.25, 4.0))
    peak = GlobalMotion(_phase_shift(first, second), rest.gain)
    moved = _unexplained(first, second, peak) < _unexplained(first, second, rest)
    motion = GlobalMotion(torch.where(moved[:, None], peak.shift, rest.shift), rest.gain)
    for _ in range(REFINEMENTS):
        motion = _refined(first, second, motion)
    return motion


def compensated(current: Float[Tensor, "b c h w"], motion: GlobalMotion) -> Float[Tensor, "b c h w"]:
    """`current` moved and lit as `motion` says; edges are repeated."""
    height, width = current.shape[-2:]
    rows = torch.arange(height, device=current.device, dtype=torch.float32) - motion.shift[:, :1]  # b h
    columns = torch.arange(width, device=current.device, dtype=torch.float32) - motion.shift[:, 1:]  # b w
    grid = torch.stack(
        (
            (2 * columns / max(width - 1, 1) - 1)[:, None, :].expand(-1, height, -1),
            (2 * rows / max(height - 1, 1) - 1)[:, :, None].expand(-1, -1, width),
        ),
        dim=-1,
    )
    moved = F.grid_sample(current.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved * motion.gain[:, None, None, None]


def _unexplained(
    first: Float[Tensor, "b h w"], second: Float[Tensor, "b h w"], motion: GlobalMotion
) -> Float[Tensor, " b"]:
    """Mean difference that a motion leaves, in which no pixel counts for more than something that moves by itself."""
    difference = second - compensated(first[:, None], motion)[:, 0]
    return difference.abs().clamp(max=MOVING).mean((1, 2))


def _phase_shift(first: Float[Tensor, "b h w"], second: Float[Tensor, "b h w"]) -> Float[Tensor, "b 2"]:
    """The whole-pixel translation whose phase correlation is largest.

    Frames are tapered towards their edges, which do not wrap around.
    """
    height, width = first.shape[-2:]
    taper = torch.outer(
        torch.hann_window(height, periodic=False, device=first.device),
        torch.hann_window(width, periodic=False, device=first.device),
    )
    one, two = (torch.fft.rfft2((frame - frame.mean((1, 2), keepdim=True)) * taper) for frame in (first, second))
    cross = two * one.conj()
    correlation = torch.fft.irfft2(cross / cross.abs().clamp(min=1e-8), s=(height, width))
    peak = correlation.flatten(1).argmax(1)
    shift = torch.stack((peak // width, peak % width), dim=1)
    size = shift.new_tensor((height, width))
    return torch.where(shift > size // 2, shift - size, shift).float()


def _refined(first: Float[Tensor, "b h w"], second: Float[Tensor, "b h w"], motion: GlobalMotion) -> GlobalMotion:
    """One reweighted least-squares step for the shift and the gain."""
    explained = compensated(first[:, None], motion)[:, 0]
    down, right = torch.gradient(explained, dim=(1, 2))
    inner = (slice(None), slice(1, -1), slice(1, -1))
    columns = torch.stack([part[inner].flatten(1) for part in (-down, -right, explained)], dim=-1)  # b p 3
    residual = (second - explained)[inner].flatten(1)  # b p
    scale = residual.abs().median(1, keepdim=True).values.clamp(min=NOISE / 2)
    weights = 1 / (1 + (residual / (2 * scale)).square()).square()
    weighted = columns * weights[..., None]
    normal = weighted.mT @ columns + 1e-4 * torch.eye(3, device=first.device)
    step = torch.linalg.solve(normal, weighted.mT @ residual[..., None])[..., 0]  # b 3
    shift = motion.shift + step[:, :2].clamp(-1, 1)
    return GlobalMotion(shift, (motion.gain * (1 + step[:, 2])).clamp(0.25, 4.0))
