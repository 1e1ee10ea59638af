"""The table as Markdown: complete, and readable as plain text."""

from collections.abc import Iterator, Sequence

from lapa.bench.results import EVERYTHING, BenchTable, Cell, Codes
from lapa.bench.words import duration_words, gain_words, mean_codes, number_words, p_words

NOTHING = "–"


def as_markdown(table: BenchTable) -> str:
    """One document; its sections come in the order of the questions a reader asks."""
    parts = [
        _head(table),
        _targets(table),
        *_settings(table),
        _distractors(table),
        _codes(table),
        _failures(table),
        _made(table),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rows_as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers to the right."""
    rule = ["---", *["---:" if _is_number(column) else "---" for column in list(zip(*rows, strict=True))[1:]]]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *rows))


def _is_number(column: Sequence[str]) -> bool:
    return all(text[:1] in "+-–<0123456789" for text in column)


def _head(table: BenchTable) -> str:
    tables = "validation tables (hyperparameters are chosen on these)" if table.is_validation else "test tables"
    lines = [f"# Tabletop study, size `{table.size}`", "", f"{table.seeds} seed{'s' * (table.seeds != 1)}, {tables}."]
    lines += ["", "```bash", table.provenance.command, "```", ""]
    lines += [f"- **{name}**: {says}" for name, says in table.methods.items()]
    return "\n".join(lines)


def _targets(table: BenchTable) -> str:
    if not table.targets:
        return ""
    rows = [
        ["met" if item.is_met else "**missed**", item.says, item.setting, item.split, item.value]
        for item in table.targets
    ]
    return "## Targets\n\n" + rows_as_table(["", "target", "setting", "split", "found"], rows)


def _settings(table: BenchTable) -> Iterator[str]:
    for setting, says in table.settings.items():
        present = [name for name in table.methods if table.cell(setting, name)]
        if present:
            heading = f"## {setting}\n\n{says[0].upper()}{says[1:]}."
            yield "\n\n".join(
                [heading, _rates(table, setting, present), _kinds(table, setting, present), _pairs(table, setting)]
            )


def _rates(table: BenchTable, setting: str, methods: Sequence[str]) -> str:
    splits = [EVERYTHING, *table.splits]
    header = ["method", *splits, "each seed", "of action-vla's gain"]
    gains = {(gain.setting, gain.method, gain.split): gain for gain in table.gains}
    rows = []
    for method in methods:
        cells = [table.cell(setting, method, split) for split in splits]
        gain = gains.get((setting, method, EVERYTHING))
        rows.append([method, *[_rate(cell) for cell in cells], _seeds(cells[0]), gain_words(gain) if gain else NOTHING])
    note = (
        "Success in percent with Wilson's 95 % interval over the episodes of all seeds; it holds no variance between "
        "seeds, which is why each seed stands beside it. " + _counts(table, setting, methods[0])
    )
    return rows_as_table(header, rows) + "\n\n" + note


def _counts(table: BenchTable, setting: str, method: str) -> str:
    cells = [table.cell(setting, method, split) for split in (EVERYTHING, *table.splits)]
    return "Episodes: " + ", ".join(f"{cell.split} {cell.episodes}" for cell in cells if cell) + "."


def _rate(cell: Cell | None) -> str:
    if cell is None:
        return NOTHING
    return f"{100 * cell.rate:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def _seeds(cell: Cell | None) -> str:
    return " / ".join(f"{100 * rate.successes / rate.episodes:.0f}" for rate in cell.seeds) if cell else NOTHING


def _kinds(table: BenchTable, setting: str, methods: Sequence[str]) -> str:
    cells = {(cell.method, cell.kind): cell for cell in table.kinds if cell.setting == setting}
    kinds = {cell.kind: cell.is_demonstrated for cell in cells.values()}
    header = ["success by kind, %", *[kind if shown else f"{kind} (unseen kind)" for kind, shown in kinds.items()]]
    rows = []
    for method in methods:
        found = [cells.get((method, kind)) for kind in kinds]
        rows.append([method, *[f"{100 * cell.rate:.0f}" if cell else NOTHING for cell in found]])
    return rows_as_table(header, rows)


def _pairs(table: BenchTable, setting: str) -> str:
    items = [item for item in table.comparisons if item.setting == setting]
    if not items:
        return ""
    rows = [
        [
            f"{item.method} against {item.against}",
            f"{item.wins}/{item.ties}/{item.losses}",
            f"{100 * item.difference:+.1f} ± {100 * item.standard_error:.1f}",
            p_words(item.p_value),
        ]
        for item in items
    ]
    header = ["same initial states", "win/tie/loss", "difference, points ± standard error", "p (McNemar)"]
    return rows_as_table(header, rows)


def _distractors(table: BenchTable) -> str:
    """What distraction costs: the same methods in the same world without it and with it."""
    rows = []
    for method in table.methods:
        calm, distracted = table.cell("in-domain", method), table.cell("distractors", method)
        if distracted is None:
            continue
        change = f"{100 * (distracted.rate - calm.rate):+.1f}" if calm else NOTHING
        rows.append([method, _rate(calm), _rate(distracted), change])
    if not rows:
        return ""
    header = ["method", "in-domain", "distractors", "change, points"]
    return "## What distractors cost\n\n" + rows_as_table(header, rows)


def _codes(table: BenchTable) -> str:
    if not table.codes:
        return ""
    header = ["videos of", "method", "perplexity", "joint", "dead codes", "error", "floor", "R²", "R² of each seed"]
    rows = []
    for videos, method in dict.fromkeys((item.videos, item.method) for item in table.codes):
        mine = [item for item in table.codes if (item.videos, item.method) == (videos, method)]
        rows.append([videos, method, *_code_numbers(mine)])
    note = (
        "Perplexity and joint perplexity count the codes and latent actions in use. `error` is that of predicting the "
        "future frame, relative to repeating the first; `floor` the same without codes. R² is of the videos' true "
        "motion, by a linear probe from the labels, on pairs it was not fitted on. Means over seeds."
    )
    return "## Do the labels mean motion?\n\n" + rows_as_table(header, rows) + "\n\n" + note


def _code_numbers(items: Sequence[Codes]) -> list[str]:
    names = ("perplexity", "joint_perplexity", "dead_share", "relative_error", "floor", "r2")
    means = [number_words(mean_codes(items, name)) for name in names]
    return [*means, " / ".join(number_words(item.r2) for item in items)]


def _failures(table: BenchTable) -> str:
    if not table.failures:
        return ""
    lines = [
        f"- **{item.setting}, {item.method}, seed {item.seed}**: {' '.join(item.words.split())}"
        for item in table.failures
    ]
    return "## Failed\n\n" + "\n".join(lines)


def _made(table: BenchTable) -> str:
    made = table.provenance
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
    header = ["stage", "made", "CPU s each", "wall s each", "CPU min, all"]
    facts = [
        f"- hardware: {made.hardware}",
        f"- time: {duration_words(made.wall_seconds)} from first to last stage, "
        f"{duration_words(made.cpu_seconds)} of CPU time",
        f"- commit: {made.commit}",
        f"- finished: {made.finished}",
        "- " + ", ".join(f"{name} {version}" for name, version in made.versions.items()),
    ]
    return "## How it was made\n\n" + "\n".join(facts) + "\n\n" + rows_as_table(header, rows)
