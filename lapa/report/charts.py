"""Line charts as inline SVG: no script, no font and no file from elsewhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from lapa.report import marks
from lapa.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, grid, number
from lapa.report.summary import Series

MAX_POINTS = 200
MARKERS = 5
"""Markers along a line."""
SMOOTH_ABOVE = 60
"""Series with more points than this are drawn as a moving average over the faint original."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A line to read the curve against."""

    value: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Series over optimizer steps."""

    title: str
    series: Mapping[str, Series]
    unit: str = ""
    note: str = ""
    references: Sequence[Reference] = ()
    """Horizontal."""
    since: Reference | None = None
    """A step from which on something holds: a vertical line."""
    low: float | None = None
    """Lower end of the axis unless the data goes below it; the data's own otherwise."""
    high: float | None = None
    styles: Mapping[str, int] = field(default_factory=dict)
    """Style of a series; the order of the series otherwise."""


def draw(chart: Chart) -> Markup:
    """The chart as a `<figure>`; empty when no series has a finite point."""
    series = {name: _finite(points) for name, points in chart.series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return Markup("")
    axes = _axes(chart, series)
    lines = [grid(axes, "step"), *(_reference(axes, reference) for reference in chart.references)]
    if chart.since is not None:
        lines.append(_since(axes, chart.since))
    legend = []
    for order, (name, points) in enumerate(series.items()):
        style = chart.styles.get(name, order) % marks.COUNT
        lines.append(_line(axes, name, points, style))
        legend.append(Markup("<span>{}{} <b>{}</b></span>").format(marks.sample(style), name, number(points[-1][1])))
    unit = f" ({chart.unit})" if chart.unit else ""
    scale = ", log scale" if axes.is_log else ""
    return Markup(
        '<figure class="chart"><figcaption>{title}<span class="unit">{unit}{scale}</span></figcaption>'
        '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{told}">{lines}</svg>'
        '<div class="legend">{legend}</div>{note}</figure>'
    ).format(
        title=chart.title, unit=unit, scale=scale, w=WIDTH, h=HEIGHT, lines=Markup("").join(lines),
        told=_told(chart, series), legend=Markup("").join(legend),
        note=Markup('<p class="note">{}</p>').format(chart.note) if chart.note else "",
    )  # fmt: skip


def _told(chart: Chart, series: Mapping[str, Series]) -> str:
    """The chart in words, for those who cannot see it."""
    parts = []
    for name, points in series.items():
        (start, first), (end, last) = points[0], points[-1]
        parts.append(f"{name} from {number(first)} at step {start:,} to {number(last)} at step {end:,}")
    parts += [f"line at {number(reference.value)}: {reference.label}" for reference in chart.references]
    if chart.since is not None:
        parts.append(f"from step {chart.since.value:,.0f} on: {chart.since.label}")
    return f"{chart.title}: {'; '.join(parts)}"


def _axes(chart: Chart, series: Mapping[str, Series]) -> Axes:
    steps = [step for points in series.values() for step, _ in points]
    shown = [value for points in series.values() for value in _visible(points)]
    shown += [reference.value for reference in chart.references]
    low, high = min(shown), max(shown)
    first = 0 if min(steps) <= 0.1 * max(steps) else min(steps)
    is_log = chart.low is None and low > 0 and high / low > 40
    if is_log:
        return Axes(first, max(steps), low / 1.2, high * 1.2, True)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Axes(
        first,
        max(steps),
        min(chart.low, low) if chart.low is not None else (max(0.0, low - margin) if low >= 0 else low - margin),
        max(chart.high, high) if chart.high is not None else high + margin,
    )


def _visible(points: Series) -> list[float]:
    """The values an axis must hold: a first few spikes may leave it."""
    values = sorted(value for _, value in points)
    return values if len(values) < SMOOTH_ABOVE else values[: max(1, int(len(values) * 0.99))]


def _reference(axes: Axes, reference: Reference) -> Markup:
    y = axes.y(reference.value)
    above = y - 4 if y > TOP + 14 else y + 12
    return Markup(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="reference"/>'
        f'<text x="{WIDTH - RIGHT - 2}" y="{above:.1f}" text-anchor="end" class="reference-name">'
    ) + Markup("{}</text>").format(reference.label)


def _since(axes: Axes, since: Reference) -> Markup:
    x = axes.x(since.value)
    is_right = x > (LEFT + WIDTH) / 2
    anchor, at = ("end", x - 5) if is_right else ("start", x + 5)
    return Markup(
        f'<rect x="{x:.1f}" y="{TOP}" width="{WIDTH - RIGHT - x:.1f}" height="{HEIGHT - BOTTOM - TOP}" class="shade"/>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="since"/>'
        f'<text x="{at:.1f}" y="{TOP + 10}" text-anchor="{anchor}" class="reference-name">'
    ) + Markup("{}</text>").format(since.label)


def _line(axes: Axes, name: str, points: Series, style: int) -> Markup:
    parts = []
    if len(points) > SMOOTH_ABOVE:
        parts.append(f'<path d="{_path(axes, _thin(points))}" class="s{style} raw"/>')
        points = _smooth(points)
    points = _thin(points)
    parts.append(
        f'<path d="{_path(axes, points)}" class="s{style} line" stroke-dasharray="{marks.DASHES[style]}"><title>'
    )
    drawn = Markup("".join(parts)) + escape(name) + Markup("</title></path>")
    stride = max(1, round((len(points) - 1) / MARKERS))
    places = {*range(len(points) - 1, -1, -stride)}
    return drawn + Markup("").join(
        marks.marker(style, axes.x(points[i][0]), axes.y(points[i][1])) for i in sorted(places)
    )


def _path(axes: Axes, points: Series) -> str:
    return "M" + "L".join(f"{axes.x(step):.1f} {axes.y(value):.1f}" for step, value in points)


def _finite(points: Series) -> Series:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _thin(points: Series) -> Series:
    stride = max(1, math.ceil(len(points) / MAX_POINTS))
    return [*points[:-1:stride], points[-1]]


def _smooth(points: Series) -> Series:
    """Moving average over a thirtieth of the curve on either side."""
    reach = max(1, len(points) // 30)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    smoothed = []
    for index, (step, _) in enumerate(points):
        start, stop = max(0, index - reach), min(len(points), index + reach + 1)
        smoothed.append((step, (sums[stop] - sums[start]) / (stop - start)))
    return smoothed
