"""Outlines of what lies on the table, about one unit in radius, as they appear (y down)."""

from functools import lru_cache
from typing import assert_never

import numpy as np
from jaxtyping import Float64

from lapa.envs.tabletop.objects import BlockName

Outline = Float64[np.ndarray, "n 2"]


@lru_cache
def block_outline(name: BlockName) -> Outline | None:
    """Of a block whose base has radius 1; None where that is the disc itself."""
    match name:
        case "red circle":
            return None
        case "blue square":
            return regular(4) * 1.1
        case "green triangle":
            return regular(3) * 1.2
        case "yellow star":
            return _star() * 1.2
        case "orange cross":
            return _cross() * 1.15
        case "pink moon":
            return _moon() * 1.2
        case _:
            assert_never(name)


def turned(outline: Outline, angle: float) -> Outline:
    """The outline, turned by radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return outline @ np.array([[cosine, sine], [-sine, cosine]])


@lru_cache
def regular(corners: int) -> Outline:
    """A regular polygon."""
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Outline:
    points = regular(10).copy()
    points[1::2] *= 0.5
    return points


def _cross() -> Outline:
    arm = 0.36
    corner = np.array([(1.0, -arm), (1.0, arm), (arm, arm)])
    return np.concatenate([turned(corner, quarter * np.pi / 2) for quarter in range(4)])


def _moon() -> Outline:
    """A crescent: an arc of the circle, and back along a flatter one."""
    outer = np.linspace(np.deg2rad(55), np.deg2rad(305), 14)
    tip = np.array([np.cos(outer[0]), np.sin(outer[0])])
    centre = np.array([0.55, 0.0])
    radius, start = float(np.linalg.norm(tip - centre)), float(np.arctan2(*(tip - centre)[::-1]))
    inner = np.linspace(2 * np.pi - start, start, 10)[1:-1]
    back = centre + radius * np.stack([np.cos(inner), np.sin(inner)], axis=1)
    crescent: np.ndarray = np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), back])
    return crescent + np.array([0.25, 0.0])
