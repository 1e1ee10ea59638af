"""A scripted expert: it sees the state, walks behind the block, and pushes."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from lapa.envs.tabletop.layouts import distance_to_segment, escapes
from lapa.envs.tabletop.tasks import (
    DIRECTIONS,
    PushBeside,
    PushDirection,
    PushTo,
    PushToPlace,
    Reach,
    Separate,
    Task,
    beside_target,
    place_target,
)
from lapa.envs.tabletop.world import STUDIO, Physics, State, clip_action

_CLEARANCE = 0.02
"""How far from a block's edge the pusher's edge stays while it walks around it."""
_LOOKAHEAD = 1.25
"""How far before a block the pusher begins to turn aside, in steps."""
_ALIGNED = 0.03
"""Sideways error, in table units, below which the pusher pushes instead of walking."""
_ORBIT, _ORBIT_TURN = 0.25, 0.7
"""Around two blocks that lie close: distance from their middle, and how far ahead the pusher aims, in radians."""
_NOISE_MEMORY = 0.8


@dataclass(frozen=True)
class Oracle:
    """Chooses actions in [-1, 1] for one task."""

    task: Task
    physics: Physics = STUDIO

    def act(self, state: State) -> np.ndarray:
        """The noiseless action; `clip_action` has been applied."""
        return self.physics.action_of(self._motion(state))

    def _motion(self, state: State) -> np.ndarray:
        block = state.position(self.task.block)
        match self.task:
            case Reach():
                others = np.delete(state.blocks, state.names.index(self.task.block), axis=0)
                return self._walk(state.pusher, block, others)
            case PushDirection():
                return self._push(state, block, DIRECTIONS[self.task.direction])
            case PushTo():
                return self._push(state, block, _unit(state.position(self.task.goal) - block))
            case PushToPlace():
                return self._push(state, block, _unit(place_target(self.task.place, block) - block))
            case PushBeside():
                target = beside_target(self.task.side, state.position(self.task.goal))
                return self._push(state, block, _unit(target - block))
            case Separate():
                return self._separate(state, block, state.position(self.task.goal), self.task)
            case _:
                assert_never(self.task)

    def _separate(self, state: State, block: np.ndarray, goal: np.ndarray, task: Separate) -> np.ndarray:
        """Push on along the way that the pusher stands behind; else go around the two, which leave no gap."""
        behind, centre = block - state.pusher, (block + goal) / 2
        if np.linalg.norm(behind) < self.physics.contact + 0.03 and float(_unit(behind) @ _unit(block - goal)) > -0.1:
            return self._push(state, block, _unit(behind))
        ways = escapes(state, task) or [_unit(block - goal)]
        stands = [block - way * (self.physics.contact + _CLEARANCE) for way in ways]
        # The nearest by the angle around the two: going there only makes it nearer.
        turns = [_turn(state.pusher - centre, stand - centre) for stand in stands]
        nearest = int(np.argmin(np.abs(turns)))
        clearance = self.physics.contact + _CLEARANCE
        if not any(_is_between(state.pusher, stands[nearest], disc, clearance) for disc in (block, goal)):
            return self._push(state, block, ways[nearest])
        heading = _turn(np.array([1.0, 0.0]), state.pusher - centre) + np.sign(turns[nearest]) * _ORBIT_TURN
        waypoint = centre + _ORBIT * np.array([np.cos(heading), np.sin(heading)])
        radius = self.physics.pusher_radius
        return self._walk(state.pusher, np.clip(waypoint, radius, 1 - radius), state.blocks)

    def _push(self, state: State, block: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Push along `way` when behind the block, else walk there."""
        contact, radius = self.physics.contact, self.physics.pusher_radius
        offset = state.pusher - block
        behind = -float(offset @ way)
        sideways = offset + behind * way
        if behind > 0.6 * contact and behind < contact + 0.05 and np.linalg.norm(sideways) < _ALIGNED:
            # A disc pushed off its centre drifts away from the pusher: stay centred.
            return clip_action(way - sideways / self.physics.max_step)
        goal = np.clip(block - way * (contact + _CLEARANCE), radius, 1 - radius)
        return self._walk(state.pusher, goal, state.blocks)

    def _walk(self, pusher: np.ndarray, goal: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
        """A step towards `goal`, sliding around the obstacles in between."""
        clearance, lookahead = self.physics.contact + _CLEARANCE, self.physics.max_step * _LOOKAHEAD
        distance = float(np.linalg.norm(goal - pusher))
        way = _unit(goal - pusher)
        for obstacle in sorted(obstacles, key=lambda o: -float(np.linalg.norm(o - pusher))):
            away = pusher - obstacle
            gap = float(np.linalg.norm(away)) - clearance
            normal = _unit(away)
            inward = -float(way @ normal)
            if gap > lookahead or inward <= 0 or not _is_between(pusher, goal, obstacle, clearance):
                continue
            tangent = way + inward * normal
            if np.linalg.norm(tangent) < 0.1:  # head-on: both sides are as far, take the one with more room
                side = np.array([-normal[1], normal[0]])
                tangent = side if float(side @ (0.5 - pusher)) >= 0 else -side
            way = _unit(_unit(tangent) + normal * np.clip(-gap / 0.02, -0.5, 1.0))
        return clip_action(way * min(1.0, distance / self.physics.max_step))


class OracleNoise:
    """Time-correlated noise on the oracle's actions, so that recordings hold mistakes and their correction."""

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self._rng = rng
        self._scale = scale
        self._value = scale * rng.standard_normal(2)

    def add(self, action: np.ndarray) -> np.ndarray:
        """The next noisy action. Standard deviation `scale` per dimension; correlation 0.8 per timestep."""
        noisy = clip_action(action + self._value)
        fresh = self._scale * np.sqrt(1 - _NOISE_MEMORY**2) * self._rng.standard_normal(2)
        self._value = _NOISE_MEMORY * self._value + fresh
        return noisy


def _turn(start: np.ndarray, end: np.ndarray) -> float:
    """Angle from one vector to another, in [-pi, pi]."""
    return float(np.arctan2(start[0] * end[1] - start[1] * end[0], start @ end))


def _is_between(pusher: np.ndarray, goal: np.ndarray, obstacle: np.ndarray, clearance: float) -> bool:
    """Whether the straight way to the goal passes too close to the obstacle."""
    return distance_to_segment(obstacle, pusher, goal) < clearance - 0.005


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.hypot(vector[0], vector[1])), 1e-9)
