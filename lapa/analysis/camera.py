"""Motion of the whole picture, which no action of the robot makes: an estimate from the frames alone.

t timesteps, m frame pairs, y x pixels at the size compared, s shifts tried.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

GLOBAL_MOTION = ("right", "down", "brighter")
SIDE = 48
"""Pixels; frames are made this small first. Shifts are told to a fraction of a pixel."""
REACH = 6
"""Pixels, of `SIDE`: an eighth of the picture is the largest shift that is found."""
ENOUGH = 0.08
"""Difference in brightness at which a pixel counts as unexplained, and not more for being further off."""
TOWARDS_REST = 1e-4
"""Added per pixel of shift: where nothing tells (an even background), the camera rests."""


def global_motion(frames: UInt8[np.ndarray, "t y x 3"], window: int) -> Float[np.ndarray, "m 3"]:
    """Of every pair (t, t + window): how far the picture moved right and down, in shares of its side, and how much
    brighter it became, of full brightness.

    The shift is the one that leaves the fewest pixels unexplained, so things that move on their own do not count
    while they are small against what has edges and stays. Phase correlation and least squares would follow the only
    thing that moves. Brightness is the mean over the middle half of the pixels' changes, for the same reason.
    """
    grey = _grey(frames)
    current, future = grey[:-window], grey[window:]
    brighter = _trimmed_mean((future - current).reshape(len(current), -1))
    costs = _costs(current, future - brighter[:, None, None])
    best = costs.reshape(len(costs), -1).argmin(axis=1)
    down, right = np.unravel_index(best, costs.shape[1:])
    return np.stack([_refined(costs, down, right, 1) / SIDE, _refined(costs, down, right, 0) / SIDE, brighter], axis=1)


def _costs(current: Float32[np.ndarray, "m y x"], future: Float32[np.ndarray, "m y x"]) -> Float[np.ndarray, "m s s"]:
    """Mean unexplained difference under every shift (down, right), where both pictures overlap for all of them."""
    inner = slice(REACH, SIDE - REACH)
    shifts = range(-REACH, REACH + 1)
    costs = np.empty((len(current), len(shifts), len(shifts)))
    target = current[:, inner, inner]
    for i, down in enumerate(shifts):
        for j, right in enumerate(shifts):
            moved = future[:, REACH + down : SIDE - REACH + down, REACH + right : SIDE - REACH + right]
            difference = np.minimum(np.abs(moved - target), ENOUGH)
            costs[:, i, j] = difference.mean(axis=(1, 2)) + TOWARDS_REST * np.hypot(down, right)
    return costs


def _refined(costs: np.ndarray, down: np.ndarray, right: np.ndarray, axis: int) -> Float[np.ndarray, " m"]:
    """The best shift along one axis (0 down, 1 right) to a fraction of a pixel: where two lines of equal slope through
    the costs around the minimum meet."""
    best = np.stack([down, right])
    step = np.zeros((2, 1), np.int64)
    step[axis] = 1
    before, after = np.maximum(best - step, 0), np.minimum(best + step, 2 * REACH)
    pairs = np.arange(len(costs))
    left, centre, other = (costs[pairs, at[0], at[1]] for at in (before, best, after))
    steepest = np.maximum(left, other) - centre
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.where(steepest > 1e-9, (left - other) / (2 * steepest), 0.0)
    at_border = (best[axis] == 0) | (best[axis] == 2 * REACH)
    return best[axis] - REACH + np.where(at_border, 0.0, np.clip(fraction, -0.5, 0.5))


def _grey(frames: np.ndarray) -> Float32[np.ndarray, "t y x"]:
    """In [0, 1]."""
    small = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in small]).astype(np.float32) / 255


def _trimmed_mean(changes: Float32[np.ndarray, "m n"]) -> Float32[np.ndarray, " m"]:
    quarter = changes.shape[1] // 4
    return np.asarray(np.sort(changes, axis=1)[:, quarter : changes.shape[1] - quarter].mean(axis=1))
