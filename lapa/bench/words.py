"""Numbers of the table as people read them, the same in Markdown and on the page."""

from collections.abc import Sequence
from statistics import fmean

from lapa.bench.results import Codes, Comparison, Gain

NOTHING = "–"


def gain_words(gain: Gain) -> str:
    """`93 % [81, 104]`."""
    if gain.low is None or gain.high is None:
        return f"{100 * gain.share:.0f} %"
    return f"{100 * gain.share:.0f} % [{100 * gain.low:.0f}, {100 * gain.high:.0f}]"


def percent_words(rate: float) -> str:
    """One decimal, without the sign."""
    return f"{100 * rate:.1f}"


def difference_words(item: Comparison) -> str:
    """`+49.0 ± 2.9`, in points."""
    return f"{100 * item.difference:+.1f} ± {100 * item.standard_error:.1f}"


def record_words(item: Comparison) -> str:
    """Wins, ties and losses."""
    return f"{item.wins}/{item.ties}/{item.losses}"


def p_words(value: float) -> str:
    """Two digits, or that it is very small."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def share_words(value: float | None) -> str:
    """In whole percent, or a dash."""
    return NOTHING if value is None else f"{value:.0%}"


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
