"""From table units to pixels, and the primitives that are drawn there."""

from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float64

Color = tuple[int, int, int]
Canvas = np.ndarray
"""RGB, uint8, square; larger than the image that is made of it."""

_SHIFT = 8
"""OpenCV's fixed-point coordinates: 1/256 of a pixel."""
_ROUND = 20
"""Corners of a disc that perspective turns into an ellipse."""


class Camera(Protocol):
    """Where the table's points are seen. `shift` moves the whole picture, in table widths."""

    def points(self, points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Table units, y up, to canvas coordinates, y down; pixel centres are whole numbers."""

    def disc(self, canvas: Canvas, centre: Float64[np.ndarray, "2"], radius: float, color: Color) -> None: ...

    def polygon(
        self, canvas: Canvas, centre: Float64[np.ndarray, "2"], corners: Float64[np.ndarray, "n 2"], color: Color
    ) -> None:
        """`corners` are in table units from the centre, but with y down, as they appear."""


class TopCamera:
    """Looks straight down: circles stay circles."""

    def __init__(self, side: int, *, margin: float, shift: Float64[np.ndarray, "2"] | None = None) -> None:
        self._scale = side / (1 + 2 * margin)
        self._margin, self._shift = margin, shift

    def points(self, points: np.ndarray) -> np.ndarray:
        return np.stack([self._point(point) for point in points])

    def _point(self, point: np.ndarray) -> np.ndarray:
        seen = point if self._shift is None else point + self._shift
        pixel: np.ndarray = np.array([seen[0] + self._margin, 1 + self._margin - seen[1]]) * self._scale - 0.5
        return pixel

    def disc(self, canvas: Canvas, centre: np.ndarray, radius: float, color: Color) -> None:
        x, y = fixed(self._point(centre)).tolist()
        pixels = round(radius * self._scale * (1 << _SHIFT))
        cv2.circle(canvas, (x, y), pixels, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def polygon(self, canvas: Canvas, centre: np.ndarray, corners: np.ndarray, color: Color) -> None:
        fill(canvas, self._point(centre) + self._scale * corners, color)


class TiltedCamera:
    """Looks from one side, turned: the far end of the table is smaller."""

    def __init__(
        self, side: int, *, seen_corners: Float64[np.ndarray, "4 2"], shift: Float64[np.ndarray, "2"] | None = None
    ) -> None:
        table = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
        seen = seen_corners if shift is None else seen_corners + shift * (1, -1)
        self._matrix: np.ndarray = cv2.getPerspectiveTransform(table, (seen * side - 0.5).astype(np.float32))

    def points(self, points: np.ndarray) -> np.ndarray:
        seen = points @ self._matrix[:, :2].T + self._matrix[:, 2]
        pixels: np.ndarray = seen[:, :2] / seen[:, 2:]
        return pixels

    def disc(self, canvas: Canvas, centre: np.ndarray, radius: float, color: Color) -> None:
        fill(canvas, self.points(centre + radius * _CIRCLE), color)

    def polygon(self, canvas: Canvas, centre: np.ndarray, corners: np.ndarray, color: Color) -> None:
        fill(canvas, self.points(centre + corners * (1, -1)), color)


def fill(canvas: Canvas, points: np.ndarray, color: Color) -> None:
    """A filled outline in canvas coordinates, edges smoothed."""
    cv2.fillPoly(canvas, [fixed(points)], color, cv2.LINE_AA, _SHIFT)


def fill_convex(canvas: Canvas, points: np.ndarray, color: Color) -> None:
    """`fill` for outlines without dents; their pixels differ a little."""
    cv2.fillConvexPoly(canvas, fixed(points), color, cv2.LINE_AA, _SHIFT)


def fixed(points: np.ndarray) -> np.ndarray:
    """Canvas coordinates as OpenCV takes them."""
    rounded: np.ndarray = np.rint(points * (1 << _SHIFT)).astype(np.int32)
    return rounded


def _circle() -> np.ndarray:
    angles = 2 * np.pi * np.arange(_ROUND) / _ROUND
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


_CIRCLE = _circle()
