"""The one place that writes: data goes to stdout, words go to stderr.

`--output json` prints exactly one JSON value on stdout. Text output is readable without colour, and is not
cut to a width where nobody looks at it (a pipe, a file).
"""

import json
import sys
from collections.abc import Mapping, Sequence, Sized
from enum import StrEnum
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 10_000
"""Columns of a stream that is no terminal: nothing is wrapped or cut."""


NAMING = frozenset({"port", "version", "replaces", "replaced", "number", "episode", "rank", "seed", "year"})
"""Fields whose whole numbers are no amounts."""


class OutputFormat(StrEnum):
    """How data is printed on stdout."""

    TEXT = "text"
    JSON = "json"


class Output:
    """What a command says. Data methods print once per command; word methods as often as needed."""

    def __init__(self, output_format: OutputFormat) -> None:
        self.is_json = output_format is OutputFormat.JSON
        self.words = console_on_stderr()
        self._data = Console(
            width=None if sys.stdout.isatty() else PIPE_WIDTH,
            highlight=False,
            soft_wrap=True,
            markup=False,  # `[seen]` in a value is a value
        )

    def json(self, value: Any) -> None:
        """One JSON value, whatever the format."""
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")

    def text(self, text: str) -> None:
        """Text that a program may read, such as YAML, as it is."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def record(self, values: Mapping[str, Any]) -> None:
        """One thing: a line per field."""
        if self.is_json:
            self.json(values)
            return
        width = max((len(name) for name in values), default=0)
        for name, value in values.items():
            self.text(f"{name.replace('_', ' '):<{width}}  {readable(value, name)}".rstrip())

    def rows(self, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str]) -> None:
        """Several things of a kind: a table of some columns, or a JSON list of everything."""
        if self.is_json:
            self.json(rows)
            return
        self.table(rows, columns=columns)

    def table(self, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str]) -> None:
        """A table on stdout; commands that print several use `is_json` to print one JSON value instead."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for column in columns:
            numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
            table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(readable(row.get(column), column) for column in columns))
        self._data.print(table, crop=False)

    def say(self, words: str) -> None:
        """What happens, for people."""
        self.words.print(words, markup=False)

    def hint(self, words: str) -> None:
        """What to do next."""
        self.words.print(f"hint: {words}", markup=False, style="dim")

    def warn(self, words: str) -> None:
        """Something is ignored or missing, and the command goes on."""
        self.words.print(f"warning: {words}", markup=False, style="yellow")


def console_on_stderr() -> Console:
    """Where words go."""
    is_watched = sys.stderr.isatty()
    return Console(stderr=True, width=None if is_watched else PIPE_WIDTH, highlight=False, soft_wrap=not is_watched)


def say_error(words: str) -> None:
    """The last words of a command that failed."""
    console_on_stderr().print(f"error: {words}", markup=False, style="red")


def readable(value: Any, name: str = "") -> str:
    """A value as people write it: short numbers, no brackets, a dash for nothing. Whole numbers that count something
    have separators, those that are names (`NAMING`) are written as they are typed."""
    if value is None or (isinstance(value, Sized) and len(value) == 0):
        return "-"
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value) if name in NAMING else f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
        case Mapping():
            return ", ".join(f"{key} {readable(item, str(key))}" for key, item in value.items())
        case list() | tuple():
            return ", ".join(readable(item, name) for item in value)
        case _:
            return str(value)


def duration(seconds: float) -> str:
    """`75` as `1m 15s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
