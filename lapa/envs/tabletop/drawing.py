"""What the camera sees: fixed, from above, drawn on the CPU without a display.

Everything is drawn larger than asked, with sub-pixel coordinates, and then averaged down: at 48 pixels a
step moves the pusher by less than two pixels, and the frames must still show it.
"""

from functools import lru_cache
from typing import assert_never

import cv2
import numpy as np
from jaxtyping import UInt8

from lapa.envs.tabletop.tasks import BLOCK_NAMES, BlockName
from lapa.envs.tabletop.world import BLOCK_RADIUS, PUSHER_RADIUS, State

Color = tuple[int, int, int]

_WALL_WIDTH = 0.03
"""How much of the walls is in view around the table, in table units."""
_SUPERSAMPLING = 2
_SHIFT = 8
"""OpenCV's fixed-point coordinates: 1/256 of a pixel."""

_TABLE: Color = (58, 56, 62)
_WALL: Color = (24, 23, 27)
_PUSHER: Color = (240, 240, 245)
_PUSHER_CENTRE: Color = (150, 80, 200)
_BLOCK_COLORS: dict[BlockName, Color] = {
    "red circle": (226, 54, 48),
    "blue square": (52, 104, 236),
    "green triangle": (44, 190, 84),
    "yellow star": (248, 212, 44),
}


def draw(state: State, image_size: int) -> UInt8[np.ndarray, "h w 3"]:
    """The table as an RGB image of `image_size` pixels square."""
    canvas = _empty_table(image_size).copy()
    scale = _pixels_per_unit(image_size)
    for name, position, angle in zip(BLOCK_NAMES, state.blocks, state.angles, strict=True):
        _draw_block(canvas, name, _to_pixels(position, scale), float(angle), BLOCK_RADIUS * scale)
    pusher = _to_pixels(state.pusher, scale)
    _disc(canvas, pusher, PUSHER_RADIUS * scale, _PUSHER)
    _disc(canvas, pusher, PUSHER_RADIUS * scale * 0.45, _PUSHER_CENTRE)
    image = np.empty((image_size, image_size, 3), dtype=np.uint8)
    cv2.resize(canvas, (image_size, image_size), dst=image, interpolation=cv2.INTER_AREA)
    return image


@lru_cache(maxsize=8)
def _empty_table(image_size: int) -> np.ndarray:
    side = image_size * _SUPERSAMPLING
    canvas = np.full((side, side, 3), _WALL, dtype=np.uint8)
    scale = _pixels_per_unit(image_size)
    corners = np.array([_to_pixels(np.array(corner), scale) for corner in ((0, 0), (1, 0), (1, 1), (0, 1))])
    cv2.fillConvexPoly(canvas, _fixed(corners), _TABLE, cv2.LINE_AA, _SHIFT)
    return canvas


def _pixels_per_unit(image_size: int) -> float:
    return image_size * _SUPERSAMPLING / (1 + 2 * _WALL_WIDTH)


def _to_pixels(position: np.ndarray, scale: float) -> np.ndarray:
    """Table units, y up, to canvas coordinates, y down; pixel centres are whole numbers."""
    return np.array([position[0] + _WALL_WIDTH, 1 + _WALL_WIDTH - position[1]]) * scale - 0.5


def _fixed(points: np.ndarray) -> np.ndarray:
    fixed: np.ndarray = np.rint(points * (1 << _SHIFT)).astype(np.int32)
    return fixed


def _draw_block(canvas: np.ndarray, name: BlockName, centre: np.ndarray, angle: float, radius: float) -> None:
    color = _BLOCK_COLORS[name]
    match name:
        case "red circle":
            _disc(canvas, centre, radius, color)
        case "blue square":
            _polygon(canvas, centre, _unit_polygon(4), radius * 1.1, angle, color)
        case "green triangle":
            _polygon(canvas, centre, _unit_polygon(3), radius * 1.2, angle, color)
        case "yellow star":
            _polygon(canvas, centre, _unit_star(), radius * 1.2, angle, color)
        case _:
            assert_never(name)


def _disc(canvas: np.ndarray, centre: np.ndarray, radius: float, color: Color) -> None:
    x, y = _fixed(centre).tolist()
    cv2.circle(canvas, (x, y), round(radius * (1 << _SHIFT)), color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _polygon(
    canvas: np.ndarray, centre: np.ndarray, corners: np.ndarray, radius: float, angle: float, color: Color
) -> None:
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = corners @ np.array([[cosine, sine], [-sine, cosine]])
    cv2.fillPoly(canvas, [_fixed(centre + radius * turned)], color, cv2.LINE_AA, _SHIFT)


@lru_cache
def _unit_polygon(corners: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@lru_cache
def _unit_star() -> np.ndarray:
    points = _unit_polygon(10).copy()
    points[1::2] *= 0.5
    return points
