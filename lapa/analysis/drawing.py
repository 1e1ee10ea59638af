"""Pictures as PNG bytes: grids of frames, a map of motions, a table of shares.

Made to be read at the width of a phone and without colour vision: 1000 pixels wide with text of 20 and more, and
values shown by lightness beside their number. y x pixels of a frame, r rows, c columns.
"""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from lapa.analysis.exhibit_results import CodeMotion

DPI = 200
WIDTH = 5.0
"""Inches, as are all lengths below."""
NAMES, EDGE = 0.78, 0.05
"""Room for the names of rows, and where there are none."""
LINE, TITLE, GAP = 0.19, 0.16, 0.03
"""Height of a line of names above the frames, of a frame's own title, and between rows."""
TEXT = 8
"""Points."""
SHADES = "Blues"
"""Lightness falls evenly with the value: the order survives grey prints and colour blindness."""


@dataclass(frozen=True, kw_only=True)
class Png:
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One frame of a grid, with words above it."""

    frame: UInt8[np.ndarray, "y x 3"]
    title: str = ""


def grid(
    rows: Sequence[Sequence[Tile | None]],
    *,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Png:
    """Frames in rows; None leaves a gap. `groups` name equal shares of the columns, with lines between them."""
    columns = max(len(row) for row in rows)
    left = NAMES if row_names else EDGE
    head = EDGE + LINE * bool(column_names) + LINE * bool(groups)
    title = TITLE if any(tile is not None and tile.title for row in rows for tile in row) else 0.0
    side = (WIDTH - left) / columns
    sheet = _Sheet(head + (side + title + GAP) * len(rows))
    for r, row in enumerate(rows):
        top = head + r * (side + title + GAP) + title
        for c, tile in enumerate(row):
            if tile is not None:
                _frame(sheet.axes(left + c * side, top, side * 0.97), tile)
        if row_names:
            sheet.text(left - 0.06, top + side / 2, row_names[r], align="right")
    for c, name in enumerate(column_names):
        sheet.text(left + (c + 0.49) * side, head - 0.12, name, align="center")
    _group_names(sheet, groups, left=left, width=columns * side, side=side)
    return _png(sheet.figure)


def _group_names(sheet: "_Sheet", groups: Sequence[str], *, left: float, width: float, side: float) -> None:
    """Above equal shares of the columns, with a line before each but the first."""
    share = width / max(len(groups), 1)
    for g, name in enumerate(groups):
        sheet.text(left + (g + 0.5) * share, 0.12, name, align="center")
        if g:
            sheet.line(left + g * share - 0.015 * side)


class _Sheet:
    """A figure addressed in inches from its upper left corner."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, side: float) -> Axes:
        box = (left / WIDTH, 1 - (top + side) / self.height, side / WIDTH, side / self.height)
        return self.figure.add_axes(box)

    def text(self, x: float, y: float, words: str, *, align: str) -> None:
        self.figure.text(x / WIDTH, 1 - y / self.height, words, fontsize=TEXT, ha=align, va="center")

    def line(self, x: float) -> None:
        self.figure.add_artist(Line2D([x / WIDTH, x / WIDTH], [0.0, 1.0], color="black", linewidth=1.0))


def motion_map(
    codes: Sequence[CodeMotion], *, dimensions: tuple[str, str], points: Float[np.ndarray, "m 2"] | None = None
) -> Png:
    """An arrow from rest to each code's mean motion and an ellipse of one standard deviation; frequent ones darker."""
    figure = Figure(figsize=(WIDTH, WIDTH * 0.92), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.15, 0.12, 0.82, 0.86))
    if points is not None:
        axes.scatter(points[:, 0], points[:, 1], s=2, color="0.85", linewidths=0, zorder=0)
    most = max((code.count for code in codes), default=1)
    for code in reversed(codes):
        shade = str(0.62 * (1 - code.count / most))
        _ellipse(axes, code, shade)
        axes.annotate("", xy=code.mean, xytext=(0, 0), arrowprops={"arrowstyle": "-|>", "color": shade, "lw": 1.2})
    for code in codes:
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "0.6", "lw": 0.5}
        axes.text(*code.mean, f"{code.code}\n×{code.count}", fontsize=TEXT - 2, ha="center", va="center", bbox=box)
    _limits(axes, codes)
    axes.axhline(0, color="0.8", lw=0.6, zorder=0)
    axes.axvline(0, color="0.8", lw=0.6, zorder=0)
    axes.set_xlabel(dimensions[0], fontsize=TEXT)
    axes.set_ylabel(dimensions[1], fontsize=TEXT)
    axes.tick_params(labelsize=TEXT - 1)
    return _png(figure)


def share_table(
    shares: Float[np.ndarray, "r c"], *, rows: Sequence[str], columns: Sequence[str], counts: Sequence[int]
) -> Png:
    """Shares of each row, as lightness and as percent; `counts` of the rows stand beside their names."""
    margin, cell = 1.75, 0.27
    height = 0.55 + cell * len(rows)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((margin / WIDTH, 0.02, 1 - (margin + 0.05) / WIDTH, cell * len(rows) / height))
    axes.imshow(shares, cmap=SHADES, vmin=0, vmax=max(float(shares.max()), 1e-9), aspect="auto")
    darkest = float(shares.max()) or 1.0
    for r, c in np.ndindex(*shares.shape):
        if shares[r, c] >= 0.005:
            ink = "white" if shares[r, c] > 0.5 * darkest else "black"
            axes.text(c, r, f"{shares[r, c] * 100:.0f}", fontsize=TEXT - 2, ha="center", va="center", color=ink)
    names = [_in_two_lines(f"{name} ({count})") for name, count in zip(rows, counts, strict=True)]
    axes.set_yticks(range(len(rows)), names, fontsize=TEXT - 2)
    axes.set_xticks(range(len(columns)), columns, fontsize=TEXT - 1)
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("code; numbers are percent of the row", fontsize=TEXT - 1)
    axes.tick_params(length=0)
    return _png(figure)


def _frame(axes: Axes, tile: Tile) -> None:
    axes.imshow(tile.frame, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="0.6", linewidth=0.4)
    if tile.title:
        axes.set_title(tile.title, fontsize=TEXT - 1, pad=1.5)


def _ellipse(axes: Axes, code: CodeMotion, shade: str) -> None:
    covariance = code.correlation * code.std[0] * code.std[1]
    matrix = np.array([[code.std[0] ** 2, covariance], [covariance, code.std[1] ** 2]])
    values, vectors = np.linalg.eigh(matrix)
    width, height = 2 * np.sqrt(np.maximum(values, 0))
    angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
    axes.add_patch(Ellipse(code.mean, width, height, angle=angle, fill=False, color=shade, lw=0.8))


def _limits(axes: Axes, codes: Sequence[CodeMotion]) -> None:
    def span(i: int) -> tuple[float, float]:
        low = min([0.0, *(code.mean[i] - 1.3 * code.std[i] for code in codes)])
        high = max([0.0, *(code.mean[i] + 1.3 * code.std[i] for code in codes)])
        room = 0.06 * (high - low) or 1.0
        return low - room, high + room

    axes.set_xlim(*span(0))
    axes.set_ylim(*span(1))


def _in_two_lines(text: str) -> str:
    lines = textwrap.wrap(text, 29, break_long_words=True)
    return "\n".join(
        lines if len(lines) <= 2 else [lines[0], textwrap.shorten(text[len(lines[0]) :], 29, placeholder="…")]
    )


def _png(figure: Figure) -> Png:
    """Equal pictures are equal bytes: no date and no version inside."""
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    width, height = canvas.get_width_height()
    return Png(data=buffer.getvalue(), width=width, height=height)
