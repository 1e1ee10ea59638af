"""The table's parts as rows of words: what Markdown and the page both show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lapa.bench.results import EVERYTHING, BenchTable, Cell, Codes
from lapa.bench.words import (
    NOTHING,
    difference_words,
    duration_words,
    gain_words,
    mean_codes,
    number_words,
    p_words,
    percent_words,
    record_words,
    share_words,
)

CALM, DISTRACTED = "in-domain", "distractors"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A header and rows under it; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SettingPart:
    """What is shown of one setting."""

    setting: str
    rates: Grid
    shares: Grid
    kinds: Grid
    pairs: Grid


def setting_parts(table: BenchTable) -> Iterator[SettingPart]:
    """Settings in which something was evaluated."""
    for setting in table.settings:
        methods = [name for name in table.methods if table.cell(setting, name)]
        if methods:
            yield SettingPart(
                setting=setting,
                rates=_rates(table, setting, methods),
                shares=_shares(table, setting, methods),
                kinds=_kinds(table, setting, methods),
                pairs=_pairs(table, setting),
            )


def distractor_grid(table: BenchTable) -> Grid:
    """What distraction costs: the same methods in the same world without it and with it, policies and codes."""
    header = ["method", "in-domain", "distractors", "change, points", "R² in-domain", "R²", "error in-domain", "error"]
    rows = []
    for method in table.methods:
        calm, distracted = table.cell(CALM, method), table.cell(DISTRACTED, method)
        r2, errors = _both(table, method, "r2"), _both(table, method, "relative_error")
        if distracted is not None or r2[1] != NOTHING or errors[1] != NOTHING:
            change = f"{100 * (distracted.rate - calm.rate):+.1f}" if calm and distracted else NOTHING
            rows.append([method, rate_words(calm), rate_words(distracted), change, *r2, *errors])
    floors = [number_words(mean_codes(_codes_in(table, setting, "lapa"), "floor")) for setting in (CALM, DISTRACTED)]
    note = (
        "Success in percent, all splits. R² is of the robot's true motion, by a linear probe from the labels; error is "
        "that of predicting the future frame, relative to repeating the first, where things that no action moves count "
        f"too. With lapa's codes withheld from the decoder it is {floors[0]} in-domain and {floors[1]} here."
    )
    return Grid(header=header, rows=rows, note=note)


def code_grid(table: BenchTable) -> Grid:
    """Health of the codes and how much they mean, per method: means over seeds."""
    header = ["learned in", "method", "perplexity", "joint", "dead codes", "error", "floor", "R²", "R² of each seed"]
    rows = []
    for videos, method in dict.fromkeys((item.videos, item.method) for item in table.codes):
        rows.append([videos, method, *_code_numbers(_codes_in(table, videos, method))])
    note = (
        "Perplexity and joint perplexity count the codes and latent actions in use. Error is that of predicting the "
        "future frame, relative to repeating the first; floor is the error of lapa's model with its codes withheld: an "
        "error that is no lower says that codes tell the decoder nothing. R² is of the true motion in the videos, by a "
        "linear probe from the labels, on pairs it was not fitted on. Means over seeds. A model that several settings "
        "share stands under the first of them; vpt's learns from each setting's own demonstrations."
    )
    return Grid(header=header, rows=rows, note=note)


def time_grid(table: BenchTable) -> Grid:
    """What each kind of stage cost."""
    rows = [
        [
            item.stage,
            str(item.made),
            f"{item.cpu_seconds / item.made:.0f}",
            f"{item.wall_seconds / item.made:.0f}",
            f"{item.cpu_seconds / 60:.1f}",
        ]
        for item in table.times
    ]
    return Grid(header=["stage", "made", "CPU s each", "wall s each", "CPU min, all"], rows=rows)


def facts(table: BenchTable) -> dict[str, str]:
    """Machine, time, commit."""
    made = table.provenance
    return {
        "hardware": made.hardware,
        "time": f"{duration_words(made.wall_seconds)} from the first stage to the last, "
        f"{duration_words(made.cpu_seconds)} of CPU time",
        "commit": made.commit,
        "finished": made.finished,
        "versions": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
    }


def _rates(table: BenchTable, setting: str, methods: Sequence[str]) -> Grid:
    splits = [EVERYTHING, *table.splits]
    rows = []
    for method in methods:
        cells = [table.cell(setting, method, split) for split in splits]
        rows.append([method, _seeds(cells[0]), *[rate_words(cell) for cell in cells]])
    counts = [cell for split in splits if (cell := table.cell(setting, methods[0], split))]
    note = ", ".join(f"{cell.split} {cell.episodes}" for cell in counts)
    return Grid(header=["method", "each seed", *splits], rows=rows, note=note)


def _shares(table: BenchTable, setting: str, methods: Sequence[str]) -> Grid:
    """Of ActionVLA's gain over Scratch; a row per method that is neither."""
    splits = [EVERYTHING, *table.splits]
    gains = {(gain.method, gain.split): gain for gain in table.gains if gain.setting == setting}
    rows = []
    for method in methods:
        found = [gains.get((method, split)) for split in splits]
        if any(found):
            rows.append([method, *[gain_words(gain) if gain else NOTHING for gain in found]])
    return Grid(header=["share of action-vla's gain over scratch", *splits], rows=rows)


def _kinds(table: BenchTable, setting: str, methods: Sequence[str]) -> Grid:
    cells = {(cell.method, cell.kind): cell for cell in table.kinds if cell.setting == setting}
    kinds = {cell.kind: cell.is_demonstrated for cell in cells.values()}
    rows = []
    for method in methods:
        found = [cells.get((method, kind)) for kind in kinds]
        rows.append([method, *[f"{100 * cell.rate:.0f}" if cell else NOTHING for cell in found]])
    names = [kind if is_shown else f"{kind} (unseen kind)" for kind, is_shown in kinds.items()]
    return Grid(header=["method", *names], rows=rows)


def _pairs(table: BenchTable, setting: str) -> Grid:
    rows = [
        [
            f"{item.method} against {item.against}",
            record_words(item),
            difference_words(item),
            p_words(item.p_value),
        ]
        for item in table.comparisons
        if item.setting == setting
    ]
    return Grid(header=["same initial states", "win/tie/loss", "difference, points ± s.e.", "p"], rows=rows)


def _codes_in(table: BenchTable, videos: str, method: str) -> list[Codes]:
    return [item for item in table.codes if (item.videos, item.method) == (videos, method)]


def _both(table: BenchTable, method: str, name: str) -> list[str]:
    """One number of its codes, without distraction and with it."""
    return [number_words(mean_codes(_codes_in(table, setting, method), name)) for setting in (CALM, DISTRACTED)]


def rate_words(cell: Cell | None) -> str:
    """`50.0 [44.3, 55.7]`, or a dash."""
    if cell is None:
        return NOTHING
    return f"{percent_words(cell.rate)} [{percent_words(cell.low)}, {percent_words(cell.high)}]"


def _seeds(cell: Cell | None) -> str:
    return " / ".join(f"{100 * rate.successes / rate.episodes:.0f}" for rate in cell.seeds) if cell else NOTHING


def _code_numbers(items: Sequence[Codes]) -> list[str]:
    def mean(name: str) -> str:
        return number_words(mean_codes(items, name))

    dead = share_words(mean_codes(items, "dead_share"))
    seeds = " / ".join(number_words(item.r2) for item in items)
    return [
        mean("perplexity"),
        mean("joint_perplexity"),
        dead,
        mean("relative_error"),
        mean("floor"),
        mean("r2"),
        seeds,
    ]
