"""Line charts as inline SVG: no script, no font and no file from elsewhere.

Drawn 360 units wide, so that text is 11 to 12 pixels on a phone and on a desktop alike. Lines differ by
colour (Okabe-Ito, safe for colour-blind readers) and by dash, so that a print in grey still tells them apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from lapa.report.summary import Series

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "10 4", "4 2", "1 2")
WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 34
MAX_POINTS = 300
SMOOTH_ABOVE = 60
"""Series with more points than this are drawn as a moving average over the faint original."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A horizontal line to read the curve against."""

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
    low: float | None = None
    """Fixed lower end of the axis; the data's own otherwise."""
    high: float | None = None
    styles: Mapping[str, int] = field(default_factory=dict)
    """Position in the palette of a series; the order of the series otherwise."""


@dataclass(frozen=True)
class _Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    is_log: bool

    def x(self, step: float) -> float:
        return LEFT + (step - self.x_low) / (self.x_high - self.x_low or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high, at = self.y_low, self.y_high, min(max(value, self.y_low), self.y_high)
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return HEIGHT - BOTTOM - (at - low) / (high - low or 1) * (HEIGHT - TOP - BOTTOM)


def draw(chart: Chart) -> Markup:
    """The chart as a `<figure>`; empty when no series has a finite point."""
    series = {name: _finite(points) for name, points in chart.series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return Markup("")
    axes = _axes(chart, series)
    lines = [_grid(axes), *(_reference(axes, reference) for reference in chart.references)]
    legend = []
    for order, (name, points) in enumerate(series.items()):
        style = chart.styles.get(name, order) % len(PALETTE)
        lines.append(_line(axes, name, points, style))
        legend.append(_legend(name, points[-1][1], style))
    unit = f" ({chart.unit})" if chart.unit else ""
    scale = ", log scale" if axes.is_log else ""
    return Markup(
        '<figure class="chart"><figcaption>{title}<span class="unit">{unit}{scale}</span></figcaption>'
        '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{title}">{lines}</svg>'
        '<div class="legend">{legend}</div>{note}</figure>'
    ).format(
        title=chart.title, unit=unit, scale=scale, w=WIDTH, h=HEIGHT, lines=Markup("").join(lines),
        legend=Markup("").join(legend), note=Markup('<p class="note">{}</p>').format(chart.note) if chart.note else "",
    )  # fmt: skip


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers inside [low, high], about `count` of them."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Short, with as many digits as tell numbers apart."""
    if not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 100 or (size >= 1 and value == int(value)):
        return f"{value:.0f}"
    if size and size < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.3g}"


def _axes(chart: Chart, series: Mapping[str, Series]) -> _Axes:
    steps = [step for points in series.values() for step, _ in points]
    shown = [value for points in series.values() for value in _visible(points)]
    shown += [reference.value for reference in chart.references]
    low, high = min(shown), max(shown)
    is_log = chart.low is None and low > 0 and high / low > 40
    if is_log:
        return _Axes(min(steps), max(steps), low / 1.2, high * 1.2, True)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return _Axes(
        min(steps),
        max(steps),
        chart.low if chart.low is not None else (max(0.0, low - margin) if low >= 0 else low - margin),
        max(chart.high, high) if chart.high is not None else high + margin,
        False,
    )


def _visible(points: Series) -> list[float]:
    """The values an axis must hold: a first few spikes may leave it."""
    values = sorted(value for _, value in points)
    return values if len(values) < SMOOTH_ABOVE else values[: max(1, int(len(values) * 0.99))]


def _grid(axes: _Axes) -> Markup:
    parts = []
    for value in _log_ticks(axes) if axes.is_log else ticks(axes.y_low, axes.y_high):
        y = axes.y(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'
        )
    for value in ticks(axes.x_low, axes.x_high):
        x = axes.x(value)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" class="axis"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end" class="axis-name">step</text>')
    return Markup("".join(parts))  # numbers only


def _log_ticks(axes: _Axes) -> list[float]:
    first, last = math.floor(math.log10(axes.y_low)), math.ceil(math.log10(axes.y_high))
    factors = (1,) if last - first > 3 else (1, 3)
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [mark for mark in marks if axes.y_low <= mark <= axes.y_high]


def _reference(axes: _Axes, reference: Reference) -> Markup:
    y = axes.y(reference.value)
    above = y - 4 if y > TOP + 14 else y + 12
    return Markup(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="reference"/>'
        f'<text x="{WIDTH - RIGHT - 2}" y="{above:.1f}" text-anchor="end" class="reference-name">'
    ) + Markup("{}</text>").format(reference.label)


def _line(axes: _Axes, name: str, points: Series, style: int) -> Markup:
    colour, dash = PALETTE[style], DASHES[style]
    parts = []
    if len(points) > SMOOTH_ABOVE:
        raw = _path(axes, _thin(points))
        parts.append(f'<path d="{raw}" fill="none" stroke="{colour}" stroke-opacity="0.22" stroke-width="1"/>')
        points = _smooth(points)
    points = _thin(points)
    parts.append(
        f'<path d="{_path(axes, points)}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dash}" stroke-linejoin="round">'
    )
    end = Markup(f'</path><circle cx="{axes.x(points[-1][0]):.1f}" cy="{axes.y(points[-1][1]):.1f}" r="2.6" '
                 f'fill="{colour}"/>')  # fmt: skip
    return Markup("".join(parts)) + Markup("<title>{}</title>").format(name) + end


def _legend(name: str, last: float, style: int) -> Markup:
    sample = Markup(
        f'<svg width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" stroke="{PALETTE[style]}" '
        f'stroke-width="2.4" stroke-dasharray="{DASHES[style]}"/></svg>'
    )
    return Markup("<span>{}{} <b>{}</b></span>").format(sample, escape(name), number(last))


def _path(axes: _Axes, points: Series) -> str:
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
