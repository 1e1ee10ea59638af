"""Recordings that share a fate: all of them are on the same side of every split."""


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
