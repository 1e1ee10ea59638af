"""How series are told apart: by dash and marker, and by how light they are; hue only repeats it.

Colours are in the style sheet (`.s0` to `.s6`), so that a dark page has lighter ones.
"""

from markupsafe import Markup

DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2")
COUNT = len(DASHES)
_SHAPES = (
    "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",  # disc
    "M-3-3h6v6h-6z",  # square
    "M0-4L3.8 3H-3.8z",  # triangle
    "M0-4L4 0L0 4L-4 0z",  # diamond
    "M-3.5-1h2.5v-2.5h2v2.5h2.5v2h-2.5v2.5h-2v-2.5h-2.5z",  # plus
    "M0 4L3.8-3H-3.8z",  # triangle on its tip
    "M-3.5-1.2h7v2.4h-7z",  # bar
)


def marker(style: int, x: float, y: float) -> Markup:
    """The shape of a series at a place."""
    return Markup(f'<path class="s{style} mark" d="{_SHAPES[style]}" transform="translate({x:.1f} {y:.1f})"/>')


def sample(style: int) -> Markup:
    """A piece of the line for a legend."""
    return Markup(
        f'<svg width="34" height="12" viewBox="0 0 34 12" aria-hidden="true"><path class="s{style} line" d="M1 6H33" '
        f'stroke-dasharray="{DASHES[style]}"/>'
    ) + Markup("{}</svg>").format(marker(style, 17, 6))
