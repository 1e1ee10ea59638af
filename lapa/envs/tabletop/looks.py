"""The two worlds as they are painted: palette, camera, table, blocks, pusher."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol, assert_never

import numpy as np
from jaxtyping import Float64

from lapa.config.tabletop import WorldName
from lapa.envs.tabletop.camera import Camera, Canvas, Color, TiltedCamera, TopCamera, fill, fill_convex
from lapa.envs.tabletop.embodiments import embodiment_of
from lapa.envs.tabletop.objects import BlockName
from lapa.envs.tabletop.shapes import block_outline, regular, turned
from lapa.envs.tabletop.world import BLOCK_RADIUS

_TABLE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)


class Look(Protocol):
    """How one world is painted. Positions and sizes are in table units."""

    drifting_colors: tuple[Color, ...]
    """Of things on the table that are no blocks."""

    def camera(self, side: int, shift: Float64[np.ndarray, "2"] | None = None) -> Camera:
        """The camera on a canvas of `side` pixels, its picture off by `shift` table widths."""

    def background(self, camera: Camera, side: int) -> Canvas:
        """The empty table."""

    def block(
        self, canvas: Canvas, camera: Camera, name: BlockName, centre: Float64[np.ndarray, "2"], angle: float
    ) -> None: ...

    def pusher(self, canvas: Canvas, camera: Camera, centre: Float64[np.ndarray, "2"]) -> None: ...


class StudioLook:
    """From above: a dark table, plain blocks, a white disc."""

    drifting_colors: tuple[Color, ...] = ((150, 110, 80), (70, 150, 150), (140, 130, 175), (190, 190, 170))
    margin = 0.03
    """How much of the walls is in view around the table, in table units."""
    table: Color = (58, 56, 62)
    wall: Color = (24, 23, 27)
    colors: Mapping[BlockName, Color] = {
        "red circle": (226, 54, 48),
        "blue square": (52, 104, 236),
        "green triangle": (44, 190, 84),
        "yellow star": (248, 212, 44),
        "orange cross": (240, 130, 24),
        "pink moon": (244, 130, 205),
    }

    def camera(self, side: int, shift: np.ndarray | None = None) -> Camera:
        return TopCamera(side, margin=self.margin, shift=shift)

    def background(self, camera: Camera, side: int) -> Canvas:
        canvas = np.full((side, side, 3), self.wall, dtype=np.uint8)
        fill_convex(canvas, camera.points(_TABLE), self.table)
        return canvas

    def block(self, canvas: Canvas, camera: Camera, name: BlockName, centre: np.ndarray, angle: float) -> None:
        _paint_block(canvas, camera, name, centre, angle, BLOCK_RADIUS, self.colors[name])

    def pusher(self, canvas: Canvas, camera: Camera, centre: np.ndarray) -> None:
        radius = embodiment_of("studio").physics.pusher_radius
        camera.disc(canvas, centre, radius, (240, 240, 245))
        camera.disc(canvas, centre, radius * 0.45, (150, 80, 200))


class WorkshopLook:
    """From one side and turned: a light bench of planks, blocks with a rim, a dark tool on a long arm."""

    drifting_colors: tuple[Color, ...] = ((120, 84, 60), (60, 96, 100), (96, 88, 128), (236, 232, 220))
    seen_corners = np.array([[0.04, 0.88], [0.85, 0.98], [0.94, 0.22], [0.20, 0.08]])
    """Where the table's corners are in the picture, from its top left, as shares of its side: from (0, 0) around."""
    floor: Color = (128, 108, 96)
    planks: tuple[Color, ...] = ((112, 140, 132), (104, 131, 124), (117, 146, 137), (108, 135, 127))
    arm_base = np.array([1.5, 0.7])
    arm_width = 0.018
    colors: Mapping[BlockName, Color] = {
        "red circle": (168, 28, 52),
        "blue square": (30, 60, 150),
        "green triangle": (20, 110, 40),
        "yellow star": (238, 208, 96),
        "orange cross": (226, 112, 64),
        "pink moon": (238, 176, 208),
    }

    def camera(self, side: int, shift: np.ndarray | None = None) -> Camera:
        return TiltedCamera(side, seen_corners=self.seen_corners, shift=shift)

    def background(self, camera: Camera, side: int) -> Canvas:
        canvas = np.full((side, side, 3), self.floor, dtype=np.uint8)
        count = 8
        for number in range(count):
            plank = _TABLE * (1, 1 / count) + (0, number / count)
            fill(canvas, camera.points(plank), self.planks[(number * 3) % len(self.planks)])
        return canvas

    def block(self, canvas: Canvas, camera: Camera, name: BlockName, centre: np.ndarray, angle: float) -> None:
        color = self.colors[name]
        _paint_block(canvas, camera, name, centre, angle, BLOCK_RADIUS, _scaled(color, 0.6))
        _paint_block(canvas, camera, name, centre, angle, BLOCK_RADIUS * 0.72, _scaled(color, 1.15))

    def pusher(self, canvas: Canvas, camera: Camera, centre: np.ndarray) -> None:
        radius = embodiment_of("workshop").physics.pusher_radius
        reach = self.arm_base - centre
        across = np.array([-reach[1], reach[0]]) * (self.arm_width / float(np.linalg.norm(reach)))
        arm = np.stack([centre + across, self.arm_base + across, self.arm_base - across, centre - across])
        fill(canvas, camera.points(arm), (84, 82, 90))
        camera.polygon(canvas, centre, regular(6) * radius * 1.1, (22, 22, 26))
        camera.disc(canvas, centre, radius * 0.4, (90, 220, 230))


@lru_cache
def look_of(world: WorldName) -> Look:
    match world:
        case "studio":
            return StudioLook()
        case "workshop":
            return WorkshopLook()
        case _:
            assert_never(world)


def _paint_block(
    canvas: Canvas, camera: Camera, name: BlockName, centre: np.ndarray, angle: float, radius: float, color: Color
) -> None:
    outline = block_outline(name)
    if outline is None:
        camera.disc(canvas, centre, radius, color)
    else:
        camera.polygon(canvas, centre, radius * turned(outline, angle), color)


def _scaled(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, round(channel * factor)) for channel in color)
    return red, green, blue
