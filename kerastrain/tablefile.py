"""A table written piece by piece, as CSV or Parquet by the ending of its name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from kerastrain.errors import ConfigError

__all__ = ["table_writer"]


@contextlib.contextmanager
def table_writer(path: Path) -> Iterator[Any]:
    """A function that appends Arrow tables to a CSV or Parquet file."""
    writer: Any = None

    def write(table: pa.Table) -> None:
        nonlocal writer
        if writer is None:
            is_csv = path.suffix.lower() == ".csv"
            make = pyarrow.csv.CSVWriter if is_csv else pq.ParquetWriter
            writer = make(str(path), table.schema)
        writer.write_table(table)

    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{path.name}: tables are written as .csv or .parquet.")
    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
