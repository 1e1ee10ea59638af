"""What the study is meant to show, and whether it does. Stated before the numbers were known."""

from collections.abc import Iterator, Sequence

from lapa.bench.results import EVERYTHING, Cell, Comparison, Gain, Target
from lapa.bench.words import p_words

CLAIMED = ("in-domain", "cross-task", "cross-environment")
SHARES = {"in-domain": 0.9, "cross-environment": 0.5}
"""Of ActionVLA's gain over Scratch, in the mean; the paper reports 0.76 and 0.37."""
SIGNIFICANT = 0.05


def targets_of(cells: Sequence[Cell], comparisons: Sequence[Comparison], gains: Sequence[Gain]) -> Iterator[Target]:
    """Those whose numbers are there. Each is judged on seen tasks, as the paper reports them, and on all episodes."""
    for setting in CLAIMED:
        for split in ("seen", EVERYTHING):
            yield from _above(cells, setting, split, "lapa", "scratch")
    for setting, wanted in SHARES.items():
        found = {gain.split: gain for gain in gains if (gain.setting, gain.method) == (setting, "lapa")}
        for gain in (found[split] for split in ("seen", EVERYTHING) if split in found):
            yield Target(
                says=f"lapa reaches at least {wanted:.0%} of action-vla's gain over scratch",
                setting=setting,
                split=gain.split,
                value=_share_words(gain),
                is_met=gain.share >= wanted,
            )
    yield from _pairs(comparisons)


def _above(cells: Sequence[Cell], setting: str, split: str, method: str, other: str) -> Iterator[Target]:
    found = {cell.method: cell for cell in cells if (cell.setting, cell.split) == (setting, split)}
    if method in found and other in found:
        mine, theirs = found[method], found[other]
        yield Target(
            says=f"{method}'s interval lies above {other}'s",
            setting=setting,
            split=split,
            value=f"from {mine.low:.1%}, against up to {theirs.high:.1%}",
            is_met=mine.low > theirs.high,
        )


def _pairs(comparisons: Sequence[Comparison]) -> Iterator[Target]:
    for item in comparisons:
        is_certain = item.p_value < SIGNIFICANT
        if (item.method, item.against) == ("vpt", "lapa") and item.setting in CLAIMED:
            yield _pair_target("lapa is above vpt", item, -item.difference, is_met=item.difference < 0 and is_certain)
        if (item.method, item.against) == ("shuffled", "scratch"):
            is_met = item.difference <= 0 or not is_certain
            yield _pair_target("shuffled codes are worth no more than scratch", item, item.difference, is_met=is_met)


def _pair_target(says: str, item: Comparison, difference: float, *, is_met: bool) -> Target:
    value = f"{100 * difference:+.1f} points, p {p_words(item.p_value)}"
    return Target(says=says, setting=item.setting, split=EVERYTHING, value=value, is_met=is_met)


def _share_words(gain: Gain) -> str:
    if gain.low is None or gain.high is None:
        return f"{gain.share:.0%}, no interval: the gain is too uncertain"
    return f"{gain.share:.0%} [{gain.low:.0%}, {gain.high:.0%}]"
