"""The table as Markdown: complete, and readable as plain text."""

from collections.abc import Iterator, Sequence

from lapa.bench.ablation_grid import ablation_grid
from lapa.bench.answers import answer_grid, caution, unfinished
from lapa.bench.grids import Grid, code_grid, distractor_grid, facts, setting_parts, time_grid
from lapa.bench.results import BenchTable


def as_markdown(table: BenchTable) -> str:
    """One document; its sections come in the order of the questions a reader asks."""
    parts = [_head(table), _failures(table), _answers(table), _ablations(table), _methods(table)]
    parts += [_targets(table), *_settings(table)]
    distractors, codes = distractor_grid(table), code_grid(table)
    if distractors.rows:
        parts.append("## What distractors cost\n\n" + grid_as_table(distractors) + "\n\n" + distractors.note)
    if codes.rows:
        parts.append("## Do the labels mean motion?\n\n" + grid_as_table(codes) + "\n\n" + codes.note)
    lines = "\n".join(f"- {name}: {value}" for name, value in facts(table).items())
    parts.append(f"## How it was made\n\n{lines}\n\n{grid_as_table(time_grid(table))}")
    return "\n\n".join(part for part in parts if part) + "\n"


def grid_as_table(grid: Grid) -> str:
    """A Markdown table; columns of numbers to the right."""
    columns = list(zip(*grid.rows, strict=True))[1:] if grid.rows else []
    rule = ["---", *["---:" if _is_number(column) else "---" for column in columns]]
    return "\n".join("| " + " | ".join(line) + " |" for line in (grid.header, rule, *grid.rows))


def _is_number(column: Sequence[str]) -> bool:
    return all(text[:1] in "+-–<0123456789" for text in column)


def _head(table: BenchTable) -> str:
    tables = "validation tables (hyperparameters are chosen on these)" if table.is_validation else "test tables"
    lines = [f"# Tabletop study, size `{table.size}`", "", f"{table.seeds} seed{'s' * (table.seeds != 1)}, {tables}."]
    lines += ["", f"**{warning}**"] if (warning := caution(table)) else []
    lines += [f"**{missing}**"] if (missing := unfinished(table)) else []
    return "\n".join([*lines, "", "```bash", table.provenance.command, "```"])


def _answers(table: BenchTable) -> str:
    grid = answer_grid(table)
    return f"## Does LAPA win?\n\n{grid_as_table(grid)}\n\n{grid.note}" if grid.rows else ""


def _ablations(table: BenchTable) -> str:
    grid = ablation_grid(table)
    return f"## Ablations\n\n{grid_as_table(grid)}\n\n{grid.note}" if grid.rows else ""


def _methods(table: BenchTable) -> str:
    return "\n".join(f"- **{name}**: {says}" for name, says in table.methods.items())


def _failures(table: BenchTable) -> str:
    if not table.failures:
        return ""
    lines = [
        f"- **{item.setting}, {item.method}, seed {item.seed}**: {' '.join(item.words.split())}"
        for item in table.failures
    ]
    return "## Failed, and missing below\n\n" + "\n".join(lines)


def _targets(table: BenchTable) -> str:
    if not table.targets:
        return ""
    rows = [
        ["met" if item.is_met else "**missed**", item.says, item.setting, item.split, item.value]
        for item in table.targets
    ]
    return "## Targets\n\n" + grid_as_table(Grid(header=["", "target", "setting", "split", "found"], rows=rows))


def _settings(table: BenchTable) -> Iterator[str]:
    for part in setting_parts(table):
        says = table.settings[part.setting]
        note = (
            "Success in percent with Wilson's 95 % interval over the episodes of all seeds. It holds no variance "
            f"between seeds, which is why each seed stands beside it. Episodes: {part.rates.note}."
        )
        kinds = Grid(header=["success by kind, %", *part.kinds.header[1:]], rows=part.kinds.rows)
        texts = [f"## {part.setting}", f"{says[0].upper()}{says[1:]}.", grid_as_table(part.rates), note]
        texts += [grid_as_table(grid) for grid in (part.shares, kinds, part.pairs) if grid.rows]
        yield "\n\n".join(texts)
