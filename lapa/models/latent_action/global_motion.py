"""What the camera and the light did between two frames, and what is left when both are taken out.

b batch, c h w images in [0, 1].
"""

import itertools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

SIDE = 48
"""Pixels; the estimate looks at larger frames in this size."""
REACH = 8
"""The largest shift that is found is this part of the side: an eighth."""
REFINEMENTS = 3
NOISE = 2 / 255
"""Differences of this size are what video compression leaves; they are no motion."""
MOVING = 0.1
"""A difference from here on is something that moves by itself, however large it is."""
TOWARDS_REST = 1e-4
"""Cost of a pixel of shift, in mean difference: where nothing tells (an even background), the camera rests."""
DARK = 0.02
"""Pixels darker than this tell nothing of the light."""


class GlobalMotion(NamedTuple):
    """future(x) is about gain * current(x - shift)."""

    shift: Float[Tensor, "b 2"]
    """Down and right, in pixels."""
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

    The start is the shift, of all whole ones within reach, that leaves the fewest pixels unexplained: what moves by
    itself does not count while it is small against what has edges and stays. Phase correlation would follow the only
    thing that moves, and least squares from rest stays there where most pixels are an even table. From the start, a
    few steps of least squares on the image gradients find parts of a pixel and the gain; pixels that fit badly count
    less and less.
    """
    first, second = _small_grey(current), _small_grey(future)
    gain = _median_gain(first, second)
    motion = GlobalMotion(_whole_shift(first, second / gain[:, None, None]), gain)
    for _ in range(REFINEMENTS):
        motion = _refined(first, second, motion)
    scale = [full / small for full, small in zip(current.shape[-2:], first.shape[-2:], strict=True)]
    return GlobalMotion(motion.shift * motion.shift.new_tensor(scale), motion.gain)


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


def _small_grey(frames: Float[Tensor, "b c h w"]) -> Float[Tensor, "b y x"]:
    height, width = frames.shape[-2:]
    grey = frames.float().mean(1, keepdim=True)
    return F.interpolate(grey, size=(min(height, SIDE), min(width, SIDE)), mode="area")[:, 0]


def _median_gain(first: Float[Tensor, "b y x"], second: Float[Tensor, "b y x"]) -> Float[Tensor, " b"]:
    """Of each frame's lit pixels, wherever they have moved to."""
    before, after = (
        torch.where(frames > DARK, frames, torch.nan).flatten(1).nanmedian(1).values for frames in (first, second)
    )
    return (after / before).nan_to_num(1.0).clamp(0.25, 4.0)


def _whole_shift(first: Float[Tensor, "b y x"], second: Float[Tensor, "b y x"]) -> Float[Tensor, "b 2"]:
    """The best shift of whole pixels, and where the least cost lies between it and its neighbours."""
    height, width = first.shape[-2:]
    down, right = height // REACH, width // REACH
    inner = first[:, down : height - down, right : width - right]  # what both frames show, whatever the shift
    costs = first.new_empty(len(first), 2 * down + 1, 2 * right + 1)
    for row, column in itertools.product(range(costs.shape[1]), range(costs.shape[2])):
        moved = second[:, row : row + inner.shape[1], column : column + inner.shape[2]]
        unexplained = (moved - inner).abs().clamp(max=MOVING).mean((1, 2))
        costs[:, row, column] = unexplained + TOWARDS_REST * math.hypot(row - down, column - right)
    best = costs.flatten(1).argmin(1)
    rows, columns = best // costs.shape[2], best % costs.shape[2]
    pairs = torch.arange(len(first), device=first.device)
    between = (_between(costs[pairs, :, columns], rows), _between(costs[pairs, rows], columns))
    return torch.stack((rows - down + between[0], columns - right + between[1]), dim=1)


def _between(costs: Float[Tensor, "b s"], best: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
    """How far the least cost lies from the best place, in [-0.5, 0.5]: where two lines of equal slope meet."""
    last = costs.shape[1] - 1
    before, least, after = (
        costs.gather(1, (best + step).clamp(0, last)[:, None])[:, 0] for step in (-1, 0, 1)
    )  # fmt: skip
    steepest = (torch.maximum(before, after) - least).clamp(min=1e-9)
    is_inside = (best > 0) & (best < last)
    return torch.where(is_inside, (before - after) / (2 * steepest), 0.0).clamp(-0.5, 0.5)


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
