"""The blocks that exist, and those that the robot's data never names."""

from typing import Literal, get_args

BlockName = Literal["red circle", "blue square", "green triangle", "yellow star", "orange cross", "pink moon"]
BLOCK_NAMES: tuple[BlockName, ...] = get_args(BlockName)

NUM_BLOCKS = 4
"""Blocks on the table. With four kinds of objects it is always the first four."""
HELD_OUT_BLOCKS: tuple[BlockName, ...] = ("yellow star", "pink moon")
"""One of the first four, two of all six."""


def block_names(objects: int) -> tuple[BlockName, ...]:
    """The kinds of blocks in a scene of so many objects."""
    return BLOCK_NAMES[:objects]
