"""The physics: a disc pushes discs on a unit table with walls, seen from above.

Coordinates are table units: x to the right, y up, the table is [0, 1] x [0, 1]. Motion is quasi-static, as
if on felt: nothing slides on by itself. Blocks are drawn with corners but stand on round, frictionless
bases, so they never turn and a push goes where it points.
"""

from dataclasses import dataclass

import numpy as np
import pymunk
from jaxtyping import Float64

from lapa.envs.tabletop.objects import NUM_BLOCKS, BlockName, block_names

BLOCK_RADIUS = 0.075

_PUSHER_MASS, _BLOCK_MASS = 10.0, 1.0
_WALL_THICKNESS = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Physics:
    """What one robot's body and controller are like."""

    pusher_radius: float
    max_step: float
    """Table units that the pusher moves in one timestep under an action of length 1."""
    substeps: int
    """So many that the pusher moves a small share of a block's radius in each."""
    axes: Float64[np.ndarray, "2 2"] | None = None
    """Orthogonal; the pusher's motion under each unit action, as columns. None: x to the right, y up."""

    @property
    def contact(self) -> float:
        """Distance of the centres when the pusher touches a block."""
        return self.pusher_radius + BLOCK_RADIUS

    def motion_of(self, action: Float64[np.ndarray, "2"]) -> Float64[np.ndarray, "2"]:
        """Where an action moves the pusher on the table, in units of `max_step`."""
        return action if self.axes is None else self.axes @ action

    def action_of(self, motion: Float64[np.ndarray, "2"]) -> Float64[np.ndarray, "2"]:
        """The action that moves the pusher so."""
        return motion if self.axes is None else self.axes.T @ motion


STUDIO = Physics(pusher_radius=0.045, max_step=0.04, substeps=3)


@dataclass(frozen=True, kw_only=True)
class State:
    """Where everything is."""

    pusher: Float64[np.ndarray, "2"]
    blocks: Float64[np.ndarray, "4 2"]
    angles: Float64[np.ndarray, "4"]
    """How the blocks are drawn, in radians; it never changes."""
    names: tuple[BlockName, ...] = block_names(NUM_BLOCKS)

    def position(self, name: BlockName) -> Float64[np.ndarray, "2"]:
        """Where a block is that lies on the table."""
        position: np.ndarray = self.blocks[self.names.index(name)]
        return position


def clip_action(action: np.ndarray) -> np.ndarray:
    """The action as it is executed: no longer than 1, so that a step is as long in every direction."""
    action = np.asarray(action, dtype=np.float64)
    return action / max(1.0, float(np.hypot(action[0], action[1])))


class World:
    """One table, from a start state on. The same state and actions give the same bits."""

    def __init__(self, start: State, physics: Physics = STUDIO) -> None:
        self._angles, self._names, self._physics = start.angles.copy(), start.names, physics
        self._space = pymunk.Space()
        self._space.iterations = 30
        self._space.damping = 0.0  # velocities die at once: quasi-static
        self._space.collision_bias = 0.0  # overlaps are pushed out whole, within one substep
        self._space.collision_slop = 1e-4
        self._add_walls()
        self._pusher = self._add_disc(start.pusher, physics.pusher_radius, _PUSHER_MASS)
        self._blocks = [self._add_disc(position, BLOCK_RADIUS, _BLOCK_MASS) for position in start.blocks]

    def _add_disc(self, position: np.ndarray, radius: float, mass: float) -> pymunk.Body:
        body = pymunk.Body(mass, float("inf"))
        body.position = float(position[0]), float(position[1])
        shape = pymunk.Circle(body, radius)
        shape.friction = shape.elasticity = 0.0
        self._space.add(body, shape)
        return body

    def _add_walls(self) -> None:
        low, high = -_WALL_THICKNESS, 1 + _WALL_THICKNESS
        for start, end in (
            ((low, low), (high, low)),
            ((high, low), (high, high)),
            ((high, high), (low, high)),
            ((low, high), (low, low)),
        ):
            self._space.add(pymunk.Segment(self._space.static_body, start, end, _WALL_THICKNESS))

    @property
    def state(self) -> State:
        return State(
            pusher=np.array(self._pusher.position, dtype=np.float64),
            blocks=np.array([body.position for body in self._blocks], dtype=np.float64),
            angles=self._angles,
            names=self._names,
        )

    def step(self, action: np.ndarray) -> None:
        """Move for one timestep; `action` is in [-1, 1] per dimension, and shortened to length 1."""
        dx, dy = self._physics.motion_of(clip_action(action)).tolist()
        substeps, reach = self._physics.substeps, self._physics.max_step
        for _ in range(substeps):
            self._pusher.velocity = dx * reach, dy * reach
            self._space.step(1 / substeps)
        # Overlap found at the end of a substep is pushed out in the next one: settle, then look.
        self._pusher.velocity = 0.0, 0.0
        self._space.step(1 / substeps)
