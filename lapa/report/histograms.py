"""Histograms as inline SVG, in the form of the line charts beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from lapa.report.axes import BOTTOM, HEIGHT, WIDTH, Axes, grid, number

BINS = 24


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often which values are there."""

    title: str
    values: np.ndarray
    x_name: str
    counted: str
    """What is counted: `episodes`."""
    note: str = ""


def draw_histogram(histogram: Histogram) -> Markup:
    """The histogram as a `<figure>`; empty when there is no finite value."""
    values = histogram.values[np.isfinite(histogram.values)].astype(np.float64)
    if not len(values):
        return Markup("")
    counts, edges = np.histogram(values, bins=_edges(values))
    axes = Axes(float(edges[0]), float(edges[-1]), 0.0, max(1.0, float(counts.max()) * 1.05))
    bars = Markup("").join(
        _bar(axes, float(edges[i]), float(edges[i + 1]), int(counts[i])) for i in range(len(counts)) if counts[i]
    )
    return Markup(
        '<figure class="chart"><figcaption>{title}<span class="unit"> ({counted})</span></figcaption>'
        '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{told}">{grid}{bars}</svg>{note}</figure>'
    ).format(
        title=histogram.title, counted=histogram.counted, w=WIDTH, h=HEIGHT, told=_told(histogram, values),
        grid=grid(axes, histogram.x_name), bars=bars,
        note=Markup('<p class="note">{}</p>').format(histogram.note) if histogram.note else "",
    )  # fmt: skip


def _edges(values: np.ndarray) -> Sequence[float]:
    """Of one bar for each value where there are few of them, of even bins otherwise."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        step = abs(low) / 5 or 0.2
        return [low + step * (2 * i - 5) / 2 for i in range(6)]
    if np.all(values == np.round(values)) and high - low < BINS:
        return [value - 0.5 for value in range(math.floor(low), math.ceil(high) + 2)]
    # The last edge as it is: rounded to below the largest value, it would leave that out.
    return [*(low + (high - low) * i / BINS for i in range(BINS)), high]


def _bar(axes: Axes, low: float, high: float, count: int) -> Markup:
    left, right, top = axes.x(low), axes.x(high), axes.y(count)
    height = max(1.0, HEIGHT - BOTTOM - top)
    width, top = max(1.0, right - left - 1), HEIGHT - BOTTOM - height
    return Markup(
        f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{number(low)} to {number(high)}: {count:,}</title></rect>"
    )


def _told(histogram: Histogram, values: np.ndarray) -> str:
    """The histogram in words, for those who cannot see it."""
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    span = f"from {number(low)} to {number(high)}, half of them up to {number(middle)}"
    return f"{histogram.title}: {len(values):,} {histogram.counted} {span}"
