"""Recordings that share a fate: all of them are on the same side of every split."""

import numpy as np
from jaxtyping import Int64


class Fates:
    """Joins of a later recording with an earlier one, which decides for both."""

    def __init__(self) -> None:
        self._earlier: dict[str, str] = {}

    def join(self, later: str, earlier: str) -> None:
        """Views and clips of both recordings, and what they were joined with, go where those of the earlier one go."""
        one, other = self._root(later), self._root(earlier)
        if one != other:
            self._earlier[one] = other

    def roots(self) -> dict[str, str]:
        """Of each recording that goes with an earlier one, the one that decides; in the order of their names."""
        return {name: self._root(name) for name in sorted(self._earlier)}

    def _root(self, name: str) -> str:
        while name in self._earlier:
            name = self._earlier[name]
        return name


class NumberedFates:
    """The same of recordings that are numbers from 0 on: 8 bytes of each."""

    def __init__(self, count: int) -> None:
        self._earlier = np.arange(count)

    def join(self, later: int, earlier: int) -> None:
        self._earlier[self._root(later)] = self._root(earlier)

    def roots(self) -> Int64[np.ndarray, " r"]:
        """Of each recording the one that decides, itself where nothing else does."""
        while not np.array_equal(further := self._earlier[self._earlier], self._earlier):
            self._earlier = further
        return self._earlier

    def _root(self, number: int) -> int:
        while (earlier := int(self._earlier[number])) != number:
            number = earlier
        return number
