"""What the study asks, answered first: LAPA against each of the methods that it is measured by, in every setting."""

from collections import Counter
from collections.abc import Iterator

from lapa.bench.grids import Grid
from lapa.bench.methods import METHODS
from lapa.bench.results import BenchTable, Comparison
from lapa.bench.sizes import size_named
from lapa.bench.table import OURS
from lapa.bench.targets import SIGNIFICANT
from lapa.bench.words import difference_words, p_words, percent_words, record_words

OTHERS = ("scratch", "action-vla", "vpt")
"""The floor, what latent actions stand in for, and the other way to use videos."""


def answer_grid(table: BenchTable) -> Grid:
    """A row per setting and opponent, over all splits; rows whose methods have no result are absent."""
    rows = []
    for setting in table.settings:
        ours = table.cell(setting, OURS)
        for other in OTHERS:
            theirs, found = table.cell(setting, other), _ours_against(table, setting, other)
            if ours and theirs and found:
                rates = [percent_words(ours.rate), percent_words(theirs.rate)]
                pairs = [difference_words(found), record_words(found), p_words(found.p_value)]
                rows.append([setting, other, verdict(found), *rates, *pairs])
    header = ["setting", "against", "lapa is", "lapa", "the other", "points ± s.e.", "won/tied/lost", "p"]
    seeds = "several seeds" if table.seeds > 1 else "one seed"
    note = (
        "Success in percent, all splits; episodes that began in the same state, paired; McNemar's exact test. It "
        f"judges these trained policies, of {seeds}: training them anew may change more than the interval says."
    )
    return Grid(header=header, rows=rows, note=note)


def verdict(found: Comparison) -> str:
    """In a word or three."""
    if found.p_value >= SIGNIFICANT:
        return "not told apart"
    return "above" if found.difference > 0 else "below"


def caution(table: BenchTable) -> str:
    """What its size keeps the table from saying; empty for sizes that show who wins."""
    return size_named(table.size).caution


def unfinished(table: BenchTable) -> str:
    """Which arms the table lacks, beside failed ones, in one sentence; empty when it is whole."""
    failed = {(item.setting, item.method, item.seed) for item in table.failures}
    missing = [
        arm
        for arm in table.arms
        if METHODS[arm.method].stages[-1] not in arm.folders and (arm.setting, arm.method, arm.seed) not in failed
    ]
    if not missing:
        return ""
    counts = Counter((arm.setting, arm.seed) for arm in missing)
    where = ", ".join(f"{setting} seed {seed} ({count})" for (setting, seed), count in counts.items())
    return f"{len(missing)} of {len(table.arms)} arms are not made yet: {where}."


def _ours_against(table: BenchTable, setting: str, other: str) -> Comparison | None:
    """The stored comparison, seen from our side."""
    return next(_from_our_side(table, setting, other), None)


def _from_our_side(table: BenchTable, setting: str, other: str) -> Iterator[Comparison]:
    for item in table.comparisons:
        if (item.setting, item.method, item.against) == (setting, OURS, other):
            yield item
        if (item.setting, item.method, item.against) == (setting, other, OURS):
            turned = {"method": OURS, "against": other, "wins": item.losses, "losses": item.wins}
            yield item.model_copy(update={**turned, "difference": -item.difference})
