"""Numbers of the table as people read them, the same in Markdown and on the page."""

from collections.abc import Sequence
from statistics import fmean

from lapa.bench.results import Codes, Gain

NOTHING = "–"


def gain_words(gain: Gain) -> str:
    """`93 % [81, 104]`."""
    if gain.low is None or gain.high is None:
        return f"{100 * gain.share:.0f} %"
    return f"{100 * gain.share:.0f} % [{100 * gain.low:.0f}, {100 * gain.high:.0f}]"


def p_words(value: float) -> str:
    """Two digits, or that it is very small."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def number_words(value: float | None) -> str:
    """Two decimals, or a dash."""
    return NOTHING if value is None else f"{value:.2f}"


def mean_codes(items: Sequence[Codes], name: str) -> float | None:
    """Mean over seeds of what is known."""
    values = [value for item in items if (value := getattr(item, name)) is not None]
    return fmean(values) if values else None


def duration_words(seconds: float) -> str:
    """`1 h 20 min`."""
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
