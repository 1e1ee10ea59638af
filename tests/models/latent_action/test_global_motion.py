"""What the camera and the light did is found and taken out; what is left draws the loss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lapa.config.latent_action import PixelTarget
from lapa.config.tabletop import Distractors, WorldName
from lapa.envs.tabletop.distractors import Distraction
from lapa.envs.tabletop.drawing import draw
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.rollouts import play_oracle, random_start
from lapa.envs.tabletop.splits import Cell
from lapa.models.latent_action.global_motion import GlobalMotion, compensated, global_motion, motion_weights
from lapa.models.latent_action.targets import build_target

SIDE = 48


def texture(pairs: int, seed: int = 0, side: int = SIDE + 16) -> Tensor:
    """Smooth random pictures in [0.2, 0.8], b 3 side side."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(pairs, 3, side // 6, side // 6, generator=generator)
    return 0.2 + 0.6 * F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def shot(scene: Tensor, row: float, column: float) -> Tensor:
    """The camera's view of the scene from one position."""
    side = scene.shape[-1]
    places = torch.arange(SIDE) + 8
    rows, columns = 2 * (places + row) / (side - 1) - 1, 2 * (places + column) / (side - 1) - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).expand(len(scene), -1, -1, -1)
    return F.grid_sample(scene, grid, mode="bicubic", align_corners=True)


def tabletop(
    world: WorldName, distractors: Distractors | None, side: int = SIDE
) -> tuple[Tensor, Tensor, GlobalMotion]:
    """Frame pairs of an oracle at work, a window of 0.3 s apart, and what the camera and the light did."""
    embodiment, random = embodiment_of(world), np.random.default_rng(1)
    states = play_oracle(random_start(random, Cell(kind="push-to")), random, physics=embodiment.physics).states
    distraction = Distraction(distractors or Distractors(), np.random.default_rng(2), embodiment.fps)
    seen = [distraction.next() for _ in states]
    pictures = [
        draw(state, side, world=world, disturbance=disturbance if distractors else None)
        for state, disturbance in zip(states, seen, strict=True)
    ]
    frames, window = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255, round(0.3 * embodiment.fps)
    widths = torch.tensor(np.stack([disturbance.shift for disturbance in seen]))
    moved = (widths[window:] - widths[:-window]).flip(1) * torch.tensor([-side, side])  # y is up on the table
    light = torch.tensor([disturbance.brightness for disturbance in seen])
    return frames[:-window], frames[window:], GlobalMotion(moved.float(), light[window:] / light[:-window])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.7), (3.0, 2.0), (-4.6, 1.3)])
@pytest.mark.parametrize("gain", [1.0, 1.2, 0.8])
def test_the_cameras_translation_and_the_change_of_light_are_found(shift: tuple[float, float], gain: float) -> None:
    scene = texture(6)
    current, future = shot(scene, 0, 0), gain * shot(scene, -shift[0], -shift[1])
    found = global_motion(current, future)
    torch.testing.assert_close(found.shift, torch.tensor(shift).expand(6, -1), atol=0.15, rtol=0)
    torch.testing.assert_close(found.gain, torch.full((6,), gain), atol=0.03, rtol=0)
    inner = (..., slice(6, -6), slice(6, -6))
    left = (compensated(current, found) - future)[inner].abs().mean()
    assert left < 0.01


def test_a_moving_block_does_not_pass_for_the_camera() -> None:
    scene = texture(4)
    current, future = shot(scene, 0, 0), shot(scene, -0.5, 0.5)
    current[:, :, 10:18, 10:18], future[:, :, 10:18, 15:23] = 1.0, 1.0
    found = global_motion(current, future)
    torch.testing.assert_close(found.shift, torch.tensor([[0.5, -0.5]]).expand(4, -1), atol=0.2, rtol=0)


@pytest.mark.parametrize("world", ["studio", "workshop"])
def test_the_camera_rests_while_only_the_pusher_and_its_block_move(world: WorldName) -> None:
    """An even table tells little of the camera, and the moving pusher has the strongest edges."""
    current, future, _ = tabletop(world, None)
    shift, gain = global_motion(current, future)
    assert shift.abs().max() < 0.15
    torch.testing.assert_close(gain, torch.ones_like(gain), atol=0.01, rtol=0)


@pytest.mark.parametrize("world", ["studio", "workshop"])
def test_a_shaking_camera_and_the_light_are_found_though_other_things_move(world: WorldName) -> None:
    current, future, truth = tabletop(world, Distractors(camera_shake=0.02))
    shift, gain = global_motion(current, future)
    unexplained = (shift - truth.shift).square().mean(0) / truth.shift.square().mean(0)
    assert unexplained.max() < 0.1
    assert (gain / truth.gain - 1).abs().max() < 0.02


def test_the_estimate_is_the_same_motion_at_any_size() -> None:
    current, future, _ = tabletop("studio", Distractors(camera_shake=0.03), side=96)
    small = [F.interpolate(frames, scale_factor=0.5, mode="area") for frames in (current, future)]
    found, expected = global_motion(current, future), global_motion(small[0], small[1])
    torch.testing.assert_close(found.shift, 2 * expected.shift)
    torch.testing.assert_close(found.gain, expected.gain)


def test_the_light_is_found_on_a_mostly_black_picture() -> None:
    current = torch.zeros(2, 3, SIDE, SIDE)
    current[:, :, 10:26, 12:30] = texture(2)[..., :16, :18]
    found = global_motion(current, 0.7 * current)
    torch.testing.assert_close(found.gain, torch.full((2,), 0.7), atol=0.03, rtol=0)
    assert found.shift.abs().max() < 0.15


def test_what_moves_by_itself_gets_the_masks_share_of_the_weight() -> None:
    scene = texture(4)
    current, future = shot(scene, 0, 0), 0.9 * shot(scene, 1.4, -0.6)
    future[:, :, 20:28, 20:28] = 1.0
    weights = motion_weights(current, future, 0.9)
    torch.testing.assert_close(weights.mean((1, 2, 3)), torch.ones(4))
    assert (weights[..., 19:29, 19:29].sum((1, 2, 3)) / weights.sum((1, 2, 3))).min() > 0.75
    assert weights.min() >= 0.1 - 1e-6


def test_pairs_in_which_nothing_moves_stay_finite() -> None:
    flat = torch.full((2, 3, SIDE, SIDE), 0.5)
    black = torch.zeros(2, 3, SIDE, SIDE)
    for current, future in ((flat, flat), (black, black), (black, flat)):
        weights = motion_weights(current, future, 0.5)
        assert torch.isfinite(weights).all() and weights.min() >= 0.5


def test_the_mask_carries_no_gradient_and_a_mask_of_zero_is_the_plain_error() -> None:
    current, future = texture(2, 1, SIDE), texture(2, 2, SIDE)
    predicted = texture(2, 3, SIDE).requires_grad_()
    plain = build_target(PixelTarget())(predicted, future, current)
    torch.testing.assert_close(plain, F.mse_loss(predicted, future))
    masked = build_target(PixelTarget(motion_mask=0.9))(predicted, future, current)
    masked.backward()
    weights = motion_weights(current, future, 0.9)
    torch.testing.assert_close(predicted.grad, 2 * weights * (predicted - future).detach() / predicted.numel())
