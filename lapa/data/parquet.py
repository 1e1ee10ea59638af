"""Reading small Parquet files."""

from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def read_parquet(source: pa.BufferReader | IO[bytes], columns: Sequence[str] | None = None) -> pa.Table:
    """A whole table, read in the calling thread alone.

    `pq.read_table` reads in Arrow's I/O threads, whatever `use_threads` says. Where one of them lets go of a Python
    file after the interpreter has begun to end, the process aborts, all its work done.
    """
    return pq.ParquetFile(source, pre_buffer=False).read(columns=columns, use_threads=False)


def read_rows(source: IO[bytes], column: str, first: int, last: int) -> pa.Table:
    """Rows whose whole-numbered `column` lies in [first, last]; row groups that cannot hold one are not read.

    Raises KeyError where the column is missing.
    """
    file = pq.ParquetFile(source, pre_buffer=False)
    if column not in file.schema_arrow.names:
        raise KeyError(f"no column {column!r} among {file.schema_arrow.names}")
    place = [file.metadata.schema.column(number).path for number in range(file.metadata.num_columns)].index(column)
    groups = [number for number in range(file.num_row_groups) if _may_hold(file, number, place, first, last)]
    rows = file.read_row_groups(groups, use_threads=False)
    return rows.filter((pc.field(column) >= first) & (pc.field(column) <= last))


def _may_hold(file: pq.ParquetFile, group: int, place: int, first: int, last: int) -> bool:
    statistics = file.metadata.row_group(group).column(place).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= last and statistics.max >= first)
