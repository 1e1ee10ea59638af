"""Bins and statistics of the actions that a stage learns, however many there are."""

from collections.abc import Iterable, Sequence

import numpy as np

from lapa.data.sketch import Sketch
from lapa.models.vla.action_space import ActionSpace, fit_action_space, summarized_action_space


def space_of(parts: Iterable[np.ndarray], names: Sequence[str], bins: int) -> ActionSpace:
    """Of arrays ``t a``, each looked at once: exact up to a million rows, from a sketch beyond.

    DataError without actions, or with one that is no number.
    """
    sketch = Sketch.of(parts)
    if sketch.rows == 0 or sketch.exact is not None:
        return fit_action_space(np.zeros((0, 0)) if sketch.exact is None else sketch.exact, names, bins)
    return summarized_action_space(sketch, names, bins)
