"""Reading small Parquet files."""

from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(source: pa.BufferReader | IO[bytes], columns: Sequence[str] | None = None) -> pa.Table:
    """A whole table, read in the calling thread alone.

    `pq.read_table` reads in Arrow's I/O threads, whatever `use_threads` says. Where one of them lets go of a Python
    file after the interpreter has begun to end, the process aborts, all its work done.
    """
    return pq.ParquetFile(source, pre_buffer=False).read(columns=columns, use_threads=False)
