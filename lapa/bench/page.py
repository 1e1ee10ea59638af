"""The table as one self-contained HTML page."""

from lapa.bench.results import BenchTable


def as_page(table: BenchTable) -> str:
    return ""
