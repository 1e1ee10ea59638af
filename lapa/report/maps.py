"""Drawings that are no curves: how often codes meet instructions, and where codes move things."""

import math

from markupsafe import Markup, escape

from lapa.analysis.results import Confusion, Scatter
from lapa.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, grid

MAX_ROWS, MAX_COLUMNS = 24, 16
STEPS = 6
"""Shades of a table of shares, from none to all."""


def shares(confusion: Confusion) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """Row, its count, and per code the share of the row as text and as a shade from 0 to `STEPS`."""
    rows = []
    for name, counts in zip(confusion.rows[:MAX_ROWS], confusion.counts[:MAX_ROWS], strict=True):
        total = sum(counts)
        cells = [count / total if total else 0.0 for count in counts[:MAX_COLUMNS]]
        rows.append((name, total, [(f"{100 * share:.0f}" if share >= 0.005 else "", _shade(share)) for share in cells]))
    return rows


def motions(scatter: Scatter) -> Markup:
    """Each code's name where it moves things on average, with one standard deviation around it."""
    if not scatter.codes:
        return Markup("")
    reach = max(max(abs(m) + s for m, s in zip(code.mean, code.std, strict=True)) for code in scatter.codes) or 1.0
    wider = (WIDTH - LEFT - RIGHT) / (HEIGHT - TOP - BOTTOM)
    axes = Axes(-reach * wider, reach * wider, -reach, reach)  # one unit is as long both ways
    lines = [grid(axes, scatter.dimensions[0], scatter.dimensions[1]), _cross(axes)]
    most = max(code.count for code in scatter.codes)
    for code in reversed(scatter.codes):
        x, y = axes.x(code.mean[0]), axes.y(code.mean[1])
        wide, tall = (axes.x(code.std[0]) - axes.x(0), axes.y(0) - axes.y(code.std[1]))
        turn = _turn(wide, tall, code.correlation)
        long, short = _spread(wide, tall, code.correlation)
        weight = 0.6 + 1.6 * math.sqrt(code.count / most)
        lines.append(
            Markup(
                f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{long:.1f}" ry="{short:.1f}" class="spread" '
                f'stroke-width="{weight:.1f}" transform="rotate({-turn:.0f} {x:.1f} {y:.1f})"/>'
                f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" class="code">'
            )
            + escape(code.code)
            + Markup("</text>")
        )
    told = "; ".join(f"code {code.code}: {code.mean[0]:.2g}, {code.mean[1]:.2g}" for code in scatter.codes)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="Mean motion of each code. {}">{}</svg>').format(
        WIDTH, HEIGHT, told, Markup("").join(lines)
    )


def _shade(share: float) -> int:
    return min(STEPS, math.ceil(share * STEPS)) if share >= 0.005 else 0


def _cross(axes: Axes) -> Markup:
    x, y = axes.x(0), axes.y(0)
    return Markup(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="axis"/>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="axis"/>'
    )


def _turn(wide: float, tall: float, correlation: float) -> float:
    """Degrees from the horizontal of an ellipse's long axis, counter-clockwise."""
    return math.degrees(0.5 * math.atan2(2 * correlation * wide * tall, wide**2 - tall**2))


def _spread(wide: float, tall: float, correlation: float) -> tuple[float, float]:
    """Half axes of the ellipse, the long one first."""
    mean, half = (wide**2 + tall**2) / 2, math.hypot((wide**2 - tall**2) / 2, correlation * wide * tall)
    return math.sqrt(mean + half), math.sqrt(max(mean - half, 0.0))
