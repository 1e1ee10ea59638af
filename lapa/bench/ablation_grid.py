"""The ablations as rows of words: `lapa`, and what becomes of it with one setting changed."""

from collections.abc import Iterator, Sequence

from lapa.bench.ablations import WHERE
from lapa.bench.grids import Grid, rate_words
from lapa.bench.results import BenchTable, Codes, Comparison
from lapa.bench.table import OURS
from lapa.bench.words import NOTHING, difference_words, mean_codes, number_words, p_words, record_words

HEADER = (
    "row", "success, %", "points ± s.e.", "won/tied/lost", "p", "R²", "error", "perplexity", "joint", "setting",
)  # fmt: skip
NOTE = (
    "Each row is lapa with one setting changed, in-domain. Success in % with Wilson's 95 % interval, all splits. "
    "Points and episodes won, tied and lost are against lapa from the same initial states; p is McNemar's exact test, "
    "not corrected for the number of rows. R² is of the true motion over the row's own window, by a linear probe from "
    "the codes; of more than a thousand possible latent actions it sees each code, not their combinations. Error is "
    "that of predicting the future frame, relative to repeating the first: over another window it is another task. "
    "Perplexity counts the codes in use, joint the latent actions."
)


def ablation_grid(table: BenchTable) -> Grid:
    """Empty for a study without ablations."""
    rows = []
    if any(item.role == "ablation" for item in table.variations):
        rows = [list(_row(table, OURS)), *[list(_row(table, item.method)) for item in table.variations]]
    return Grid(header=HEADER, rows=rows, note=f"{NOTE} {_floor_words(table)}".strip())


def _row(table: BenchTable, method: str) -> Iterator[str]:
    yield method
    yield rate_words(table.cell(WHERE, method))
    yield from _against_ours(table, method)
    codes = _codes(table, method)
    for name in ("r2", "relative_error", "perplexity", "joint_perplexity"):
        yield number_words(mean_codes(codes, name))
    settings = [f"{item.key}={item.value}, not {item.ours}" for item in table.variations if item.method == method]
    yield settings[0] if settings else NOTHING


def _against_ours(table: BenchTable, method: str) -> Sequence[str]:
    found = _comparison(table, method)
    return [difference_words(found), record_words(found), p_words(found.p_value)] if found else [NOTHING] * 3


def _comparison(table: BenchTable, method: str) -> Comparison | None:
    wanted = (WHERE, method, OURS)
    return next((item for item in table.comparisons if (item.setting, item.method, item.against) == wanted), None)


def _codes(table: BenchTable, method: str) -> list[Codes]:
    """Of its latent-action models; a method that shares one with another is listed under the other's name alone."""
    folders = {arm.folders.get("laq") for arm in table.arms if (arm.setting, arm.method) == (WHERE, method)} - {None}
    sharing = {arm.method for arm in table.arms if arm.setting == WHERE and arm.folders.get("laq") in folders}
    for name in sorted(sharing, key=lambda other: (other != method, other != OURS)):
        found = [item for item in table.codes if (item.videos, item.method) == (WHERE, name)]
        if found:
            return found
    return []


def _floor_words(table: BenchTable) -> str:
    floor = mean_codes(_codes(table, OURS), "floor")
    return f"With lapa's codes withheld from the decoder the error is {number_words(floor)}." if floor else ""
