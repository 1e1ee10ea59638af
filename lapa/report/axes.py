"""Axes of a chart: where a value lies, round ticks, short numbers."""

import math
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 360, 216
"""Units of a drawing's view box: text of 11 to 12 units is as many pixels on a phone and on a desktop alike."""
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 34


@dataclass(frozen=True)
class Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    is_log: bool = False

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high, at = self.y_low, self.y_high, min(max(value, self.y_low), self.y_high)
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return HEIGHT - BOTTOM - (at - low) / (high - low or 1) * (HEIGHT - TOP - BOTTOM)


def grid(axes: Axes, x_name: str) -> Markup:
    """Lines at round values, numbers beside them, what the steps are of."""
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
    name = Markup('<text x="{}" y="{}" text-anchor="end" class="axis-name">{}</text>')
    return Markup("".join(parts)) + name.format(WIDTH - RIGHT, HEIGHT - 3, x_name)  # parts hold numbers only


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


def _log_ticks(axes: Axes) -> list[float]:
    first, last = math.floor(math.log10(axes.y_low)), math.ceil(math.log10(axes.y_high))
    factors = (1,) if last - first > 3 else (1, 3)
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [mark for mark in marks if axes.y_low <= mark <= axes.y_high]
