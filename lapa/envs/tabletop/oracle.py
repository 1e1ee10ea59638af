"""A scripted expert: it sees the state, walks behind the block, and pushes."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from lapa.envs.tabletop.tasks import DIRECTIONS, PushDirection, PushTo, Reach, Task, block_index
from lapa.envs.tabletop.world import CONTACT, MAX_STEP, PUSHER_RADIUS, State, clip_action

_CLEARANCE = CONTACT + 0.02
"""Distance at which the pusher walks around a block."""
_LOOKAHEAD = 0.05
"""How far before a block the pusher begins to turn aside."""
_ALIGNED = 0.03
"""Sideways error, in table units, below which the pusher pushes instead of walking."""
_NOISE_MEMORY = 0.8


@dataclass(frozen=True)
class Oracle:
    """Chooses actions in [-1, 1] for one task."""

    task: Task

    def act(self, state: State) -> np.ndarray:
        """The noiseless action; `clip_action` has been applied."""
        block = state.blocks[block_index(self.task.block)]
        match self.task:
            case Reach():
                others = np.delete(state.blocks, block_index(self.task.block), axis=0)
                return _walk(state.pusher, block, others)
            case PushDirection():
                return _push(state, block, DIRECTIONS[self.task.direction])
            case PushTo():
                return _push(state, block, _unit(state.blocks[block_index(self.task.goal)] - block))
            case _:
                assert_never(self.task)


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


def _push(state: State, block: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Push along `way` when behind the block, else walk there."""
    offset = state.pusher - block
    behind = -float(offset @ way)
    sideways = offset + behind * way
    if behind > 0.6 * CONTACT and behind < CONTACT + 0.05 and np.linalg.norm(sideways) < _ALIGNED:
        # A disc pushed off its centre drifts away from the pusher: stay centred.
        return clip_action(way - sideways / MAX_STEP)
    goal = np.clip(block - way * (CONTACT + 0.02), PUSHER_RADIUS, 1 - PUSHER_RADIUS)
    return _walk(state.pusher, goal, state.blocks)


def _walk(pusher: np.ndarray, goal: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
    """A step towards `goal`, sliding around the obstacles in between."""
    distance = float(np.linalg.norm(goal - pusher))
    way = _unit(goal - pusher)
    for obstacle in sorted(obstacles, key=lambda o: -float(np.linalg.norm(o - pusher))):
        away = pusher - obstacle
        gap = float(np.linalg.norm(away)) - _CLEARANCE
        normal = _unit(away)
        inward = -float(way @ normal)
        if gap > _LOOKAHEAD or inward <= 0 or not _is_between(pusher, goal, obstacle):
            continue
        tangent = way + inward * normal
        if np.linalg.norm(tangent) < 0.1:  # head-on: both sides are as far, take the one with more room
            side = np.array([-normal[1], normal[0]])
            tangent = side if float(side @ (0.5 - pusher)) >= 0 else -side
        way = _unit(_unit(tangent) + normal * np.clip(-gap / 0.02, -0.5, 1.0))
    return clip_action(way * min(1.0, distance / MAX_STEP))


def _is_between(pusher: np.ndarray, goal: np.ndarray, obstacle: np.ndarray) -> bool:
    """Whether the straight way to the goal passes too close to the obstacle."""
    line = goal - pusher
    share = float(np.clip((obstacle - pusher) @ line / max(float(line @ line), 1e-12), 0, 1))
    return float(np.linalg.norm(pusher + share * line - obstacle)) < _CLEARANCE - 0.005


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.hypot(vector[0], vector[1])), 1e-9)
