"""The estimate of the whole picture's motion, on pictures moved by a known amount."""

import cv2
import numpy as np
import pytest

from lapa.analysis.camera import camera_motion


def scene(side: int, seed: int = 0) -> np.ndarray:
    """Blocks on an even table."""
    random = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 170, np.uint8)
    for _ in range(7):
        x, y = random.integers(side // 8, side - side // 4, size=2)
        cv2.rectangle(picture, (x, y), (x + side // 8, y + side // 8), random.integers(0, 255, 3).tolist(), -1)
    return picture


def moved(picture: np.ndarray, right: float, down: float) -> np.ndarray:
    side = picture.shape[0]
    matrix = np.array([[1, 0, right * side], [0, 1, down * side]])
    return cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize(("right", "down"), [(0.06, 0.0), (-0.03, 0.08), (0.01, -0.01)])
@pytest.mark.parametrize("side", [64, 256])
def test_a_known_shift_of_the_picture_is_found(right: float, down: float, side: int) -> None:
    first = scene(side)
    found = camera_motion(np.stack([first, moved(first, right, down)]), 1)[0]
    assert found[:2] == pytest.approx([right, down], abs=0.006)
    assert abs(found[2]) < 0.01


def test_a_block_that_moves_alone_is_no_motion_of_the_picture() -> None:
    frames = []
    for x in (10, 20):
        picture = scene(64)
        cv2.circle(picture, (x, 32), 5, (20, 20, 20), -1)
        frames.append(picture)
    found = camera_motion(np.stack(frames), 1)[0]
    assert np.abs(found).max() < 0.006


def test_a_change_of_light_is_told_and_is_no_shift() -> None:
    first = scene(64)
    brighter = np.clip(first * 1.15, 0, 255).astype(np.uint8)
    found = camera_motion(np.stack([first, brighter]), 1)[0]
    assert found[2] == pytest.approx(0.15, abs=0.02)
    assert np.abs(found[:2]).max() < 0.006


def test_an_even_picture_rests() -> None:
    assert np.abs(camera_motion(np.full((4, 32, 32, 3), 99, np.uint8), 2)).max() == 0


def test_a_long_episode_has_its_pairs_in_order() -> None:
    """More pairs than fit into one batch; the light goes on between frames 149 and 150."""
    frames = np.full((200, 16, 16, 3), 60, np.uint8)
    frames[150:] = 120
    brighter = camera_motion(frames, 3)[:, 2]
    assert len(brighter) == 197 and np.flatnonzero(brighter > 0.5).tolist() == [147, 148, 149]
