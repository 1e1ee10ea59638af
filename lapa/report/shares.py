"""How often codes meet instructions, as a shaded table."""

import math

from lapa.analysis.exhibit_results import Confusion
from lapa.analysis.records import Source
from lapa.analysis.results import AnalysisResult

MAX_ROWS, MAX_COLUMNS = 24, 16
STEPS = 6
"""Shades of a table of shares, from none to all."""


def share_rows(confusion: Confusion) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """Row, its count, and per code the share of the row as text and as a shade from 0 to `STEPS`."""
    rows = []
    for name, counts in zip(confusion.rows[:MAX_ROWS], confusion.counts[:MAX_ROWS], strict=True):
        total = sum(counts)
        cells = [count / total if total else 0.0 for count in counts[:MAX_COLUMNS]]
        rows.append((name, total, [(f"{100 * share:.0f}" if share >= 0.005 else "", _shade(share)) for share in cells]))
    return rows


def role_of(analysis: AnalysisResult, dataset: Source) -> str:
    """What the run uses a dataset for: `videos`, `robot`, or its name."""
    roles = (role for role, source in analysis.datasets.items() if source.digest == dataset.digest)
    return next(roles, dataset.name)


def _shade(share: float) -> int:
    return min(STEPS, math.ceil(share * STEPS)) if share >= 0.005 else 0
