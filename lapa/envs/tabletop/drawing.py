"""What the camera sees, drawn on the CPU without a display.

Everything is drawn larger than asked, with sub-pixel coordinates, and then averaged down: at 48 pixels a
step moves the pusher by less than two pixels, and the frames must still show it.
"""

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import UInt8

from lapa.config.tabletop import WorldName
from lapa.envs.tabletop.camera import Camera, Canvas
from lapa.envs.tabletop.distractors import Disturbance
from lapa.envs.tabletop.looks import Look, look_of
from lapa.envs.tabletop.shapes import regular, turned
from lapa.envs.tabletop.world import State

_SUPERSAMPLING = 2


def draw(
    state: State, image_size: int, *, world: WorldName = "studio", disturbance: Disturbance | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """The table as an RGB image of `image_size` pixels square."""
    look = look_of(world)
    side = image_size * _SUPERSAMPLING
    if disturbance is None:
        camera, canvas = _still(world, side)
        canvas = canvas.copy()
    else:
        camera = look.camera(side, disturbance.shift)
        canvas = look.background(camera, side)
        _draw_shapes(canvas, camera, look, disturbance)
    for name, position, angle in zip(state.names, state.blocks, state.angles, strict=True):
        look.block(canvas, camera, name, position, float(angle))
    look.pusher(canvas, camera, state.pusher)
    if disturbance is not None:
        canvas = cv2.convertScaleAbs(canvas, alpha=disturbance.brightness)
    image = np.empty((image_size, image_size, 3), dtype=np.uint8)
    cv2.resize(canvas, (image_size, image_size), dst=image, interpolation=cv2.INTER_AREA)
    return image


@lru_cache(maxsize=8)
def _still(world: WorldName, side: int) -> tuple[Camera, Canvas]:
    """The undisturbed camera and the empty table, not to be painted on."""
    look = look_of(world)
    camera = look.camera(side)
    return camera, look.background(camera, side)


def _draw_shapes(canvas: Canvas, camera: Camera, look: Look, disturbance: Disturbance) -> None:
    colors = look.drifting_colors
    for shape in disturbance.shapes:
        outline = shape.radius * turned(regular(shape.corners), shape.angle)
        camera.polygon(canvas, shape.position, outline, colors[shape.color % len(colors)])
