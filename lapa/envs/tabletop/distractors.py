"""What moves in the picture though no action moves it: drifting shapes, a shaking camera, changing light.

Only the picture: the physics, the tasks and the oracle know nothing of it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lapa.config.tabletop import Distractors

_MEMORY_SECONDS = 0.5
"""After so long, shake and light have forgotten two thirds of what they were."""
_SPEED = 0.08, 0.25
"""Of drifting shapes, in table widths per second: about as fast as the pusher at work."""
_RADIUS = 0.05, 0.09
_TURN = 0.8
"""Standard deviation of a shape's turning speed, in radians per second."""


@dataclass(frozen=True, kw_only=True)
class DriftingShape:
    """One thing on the table that is no block."""

    position: Float64[np.ndarray, "2"]
    angle: float
    radius: float
    corners: int
    color: int
    """Number of the color in the world's palette of such things."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What disturbs one frame."""

    shift: Float64[np.ndarray, "2"]
    """How far the camera's picture is off, in table widths."""
    brightness: float
    """Factor on all colors."""
    shapes: tuple[DriftingShape, ...]


class Distraction:
    """The disturbances of one episode, frame by frame; decided by its generator."""

    def __init__(self, config: Distractors, rng: np.random.Generator, fps: int) -> None:
        count = config.moving_shapes
        self._config, self._rng, self._seconds = config, rng, 1 / fps
        self._memory = float(np.exp(-1 / (fps * _MEMORY_SECONDS)))
        self._noise = rng.standard_normal(3)
        self._positions = rng.uniform(0, 1, (count, 2))
        headings = rng.uniform(0, 2 * np.pi, count)
        speeds = rng.uniform(*_SPEED, count)
        self._velocities = speeds[:, None] * np.stack([np.cos(headings), np.sin(headings)], axis=1)
        self._angles, self._spins = rng.uniform(0, 2 * np.pi, count), rng.normal(0, _TURN, count)
        self._radii, self._corners = rng.uniform(*_RADIUS, count), rng.integers(3, 8, count)
        self._colors = rng.integers(0, 2**16, count)

    def next(self) -> Disturbance:
        """The disturbance of the next frame."""
        disturbance = Disturbance(
            shift=self._config.camera_shake * self._noise[:2],
            brightness=float(max(0.3, 1 + self._config.light * self._noise[2])),
            shapes=tuple(self._shape(i) for i in range(self._config.moving_shapes)),
        )
        self._noise = self._memory * self._noise + np.sqrt(1 - self._memory**2) * self._rng.standard_normal(3)
        self._drift()
        return disturbance

    def _drift(self) -> None:
        """On along straight lines; shapes turn back where they have half left the table."""
        self._positions = self._positions + self._velocities * self._seconds
        self._angles = self._angles + self._spins * self._seconds
        outward = ((self._positions < 0) & (self._velocities < 0)) | ((self._positions > 1) & (self._velocities > 0))
        self._velocities = np.where(outward, -self._velocities, self._velocities)

    def _shape(self, index: int) -> DriftingShape:
        return DriftingShape(
            position=self._positions[index],
            angle=float(self._angles[index]),
            radius=float(self._radii[index]),
            corners=int(self._corners[index]),
            color=int(self._colors[index]),
        )
