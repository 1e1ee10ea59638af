"""Success with its intervals as inline SVG: a row per method, a mark for seen and one for unseen tasks.

Drawn 360 units wide, so that text is 11 to 12 pixels on a phone and on a desktop alike. Marks differ by shape and
filling, methods by their names: nothing is told by colour alone.
"""

from collections.abc import Iterator

from markupsafe import Markup, escape

from lapa.bench.methods import METHODS
from lapa.bench.results import UNSEEN, BenchTable, Cell

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 360, 116, 12, 8, 32, 34
OFFSET = 6
"""Of the seen mark above, and of the unseen mark below, the middle of a row."""
COLOURS = {"lapa": "#0072b2", "baseline": "#b35a00", "control": "#5b6875"}


def draw_setting(table: BenchTable, setting: str) -> Markup:
    """The figure of one setting; empty where no arm has a result."""
    methods = [name for name in table.methods if table.cell(setting, name)]
    if not methods:
        return Markup("")
    height = TOP + ROW * len(methods) + BOTTOM
    parts = [_grid(height - BOTTOM), _scratch_line(table, setting, height - BOTTOM)]
    for row, method in enumerate(methods):
        middle = TOP + ROW * row + ROW / 2
        parts.append(_name(method, middle))
        parts += list(_marks(table, setting, method, middle))
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, _spoken(table, setting, methods), Markup("").join(parts)
    )


def _marks(table: BenchTable, setting: str, method: str, middle: float) -> Iterator[Markup]:
    seen, unseen = table.cell(setting, method, "seen"), table.cell(setting, method, UNSEEN)
    colour = COLOURS[_family(method)]
    if seen:
        yield _interval(seen, middle - OFFSET, colour)
        x = _x(seen.rate)
        yield Markup(f'<circle cx="{x:.1f}" cy="{middle - OFFSET:.1f}" r="4.6" fill="{colour}"/>')
    if unseen:
        yield _interval(unseen, middle + OFFSET, colour)
        x, y = _x(unseen.rate), middle + OFFSET
        diamond = f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z"
        yield Markup(f'<path d="{diamond}" fill="#fff" stroke="{colour}" stroke-width="1.8"/>')


def _interval(cell: Cell, y: float, colour: str) -> Markup:
    """The interval as a bar, each seed as a tick across it."""
    low, high = _x(cell.low), _x(cell.high)
    bar = f'<path d="M{low:.1f} {y:.1f}H{high:.1f}" stroke="{colour}" stroke-width="2.4"/>'
    ticks = ""
    if len(cell.seeds) > 1:
        places = [_x(rate.successes / rate.episodes) for rate in cell.seeds]
        ticks = "".join(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4:.1f}" y2="{y + 4:.1f}" stroke="{colour}"/>' for x in places
        )
    return Markup(bar + ticks)  # numbers only


def _name(method: str, middle: float) -> Markup:
    weight = "600" if _family(method) == "lapa" else "400"
    return Markup('<text x="{}" y="{:.1f}" text-anchor="end" font-weight="{}">{}</text>').format(
        LEFT - 9, middle + 4, weight, escape(method)
    )


def _scratch_line(table: BenchTable, setting: str, bottom: float) -> Markup:
    """What a policy without videos reaches on seen tasks: the line to be above."""
    scratch = table.cell(setting, "scratch", "seen")
    if scratch is None:
        return Markup("")
    x = _x(scratch.rate)
    return Markup(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" class="reference"/>')


def _grid(bottom: float) -> Markup:
    parts = []
    for percent in (0, 25, 50, 75, 100):
        x = _x(percent / 100)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" class="grid"/>'
            f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{percent}</text>'
        )
    middle = (_x(0) + _x(1)) / 2
    parts.append(f'<text x="{middle:.1f}" y="{bottom + 29}" text-anchor="middle" class="axis">success, %</text>')
    return Markup("".join(parts))


def _spoken(table: BenchTable, setting: str, methods: list[str]) -> str:
    cells = [cell for method in methods if (cell := table.cell(setting, method))]
    return f"Success in {setting}: " + ", ".join(f"{cell.method} {cell.rate:.0%}" for cell in cells)


def _family(method: str) -> str:
    if METHODS[method].role == "control":
        return "control"
    return "lapa" if method.startswith("lapa") or METHODS[method].varies else "baseline"


def _x(rate: float) -> float:
    return LEFT + rate * (WIDTH - LEFT - RIGHT)
