"""Parquet files."""

import re
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from kerastrain.errors import SourceError, listing
from kerastrain.files import files_fingerprint, files_name, find_files, with_rows
from kerastrain.memory import connect
from kerastrain.remote import address_of
from kerastrain.selection import in_quotes
from kerastrain.source import Source, check_names, quoted, stream, unreadable
from kerastrain.unify import check_same_columns, file_names

__all__ = ["ParquetSource"]

# What a model takes is float32 or text: numbers without a width of their own and
# types of a writer's choice are read as the nearest of the two.
READ_AS = {"decimal": "DOUBLE", "hugeint": "DOUBLE", "uhugeint": "DOUBLE"}
READ_AS |= {"enum": "VARCHAR", "uuid": "VARCHAR"}


class ParquetSource(Source):
    """Parquet files with the same columns; Arrow types are kept.

    Folders such as `year=2020` are columns too. Decimals are read as float64 and
    dictionary columns as plain strings, points in time as the clock of the zone that
    the file names. Files of the same columns in another order are matched by name.
    """

    def __init__(self, data: Any, max_bad_rows: float = 0.0):
        footers = {path: _footer(path) for path in find_files(data)}
        self.paths = with_rows([*footers], [rows for _, rows in footers.values()])
        self.name = files_name(self.paths)
        schemas = [footers[path][0] for path in self.paths]
        check_names(schemas[0].names, self.paths[0].name)
        check_same_columns(self.paths, schemas)
        _check_partitions(self.paths)
        self.num_rows = sum(footers[path][1] for path in self.paths)
        self._zones = _zones(schemas)
        self._reader = _reader(self.paths, all(s.equals(schemas[0]) for s in schemas))
        self._connection = connect()
        self._fingerprint: dict[str, Any] = {}
        self._columns = self._projections()
        self.schema = self._schema()

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        query = self._query(self.checked_columns(columns))
        batches = stream(self._connection, query, batch_rows, self.name)
        return batches if len(self.paths) == 1 else self._naming_damaged(batches)

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        return connection.sql(self._query(list(self._columns)))

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or files_fingerprint(self.paths)
        return self._fingerprint

    def _naming_damaged(
        self, batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        """The batches; an error names the first file that cannot be read to its end."""
        try:
            yield from batches
        except SourceError as error:
            for path in self.paths:
                try:
                    with pq.ParquetFile(path) as file:
                        list(map(len, file.iter_batches()))
                except (pa.ArrowException, OSError):
                    raise unreadable(address_of(path), error) from error
            raise

    def _query(self, columns: Sequence[str]) -> str:
        shown = ", ".join(self._columns[name] for name in columns)
        return f"SELECT {shown} FROM {self._reader}"

    def _projections(self) -> dict[str, str]:
        """Column name to its expression, in the order of the first file."""
        try:
            relation = self._connection.sql(f"FROM {self._reader}")
        except duckdb.Error as error:
            raise unreadable(self.name, error) from error
        found = {}
        for name, kind in zip(relation.columns, relation.types, strict=True):
            column, read_as = in_quotes(name), READ_AS.get(kind.id)
            if read_as:
                found[name] = f"CAST({column} AS {read_as}) AS {column}"
            elif kind.id == "timestamp with time zone":
                found[name] = (
                    f"{_clock_sql(column, self._zones.get(name, 'UTC'))} AS {column}"
                )
            else:
                found[name] = column
        return found

    def _schema(self) -> pa.Schema:
        query = self._query(list(self._columns)) + " LIMIT 0"
        return self._connection.sql(query).to_arrow_table().schema


def _reader(paths: Sequence[Path], is_same: bool) -> str:
    files = ", ".join(quoted(escape(str(path))) for path in paths)
    # By name DuckDB opens all files before the first row: 4 s more for 10,000 of them.
    by_name = str(not is_same).lower()
    is_hive = str(bool(_partitions(paths[0]))).lower()
    return (
        f"read_parquet([{files}], union_by_name={by_name}, hive_partitioning={is_hive})"
    )


def _partitions(path: Path) -> list[str]:
    """Names of the columns that folders above a file give, as in `year=2020`."""
    return [part.partition("=")[0] for part in path.parts[:-1] if "=" in part]


def _check_partitions(paths: Sequence[Path]) -> None:
    first = _partitions(paths[0])
    for path in paths[1:]:
        if (other := _partitions(path)) != first:
            names = file_names(path, paths[0])
            raise SourceError(
                f"{names[0]} and {names[1]} lie in different partitions: folders above "
                f"them name {listing(other) or 'nothing'}, and {listing(first) or 'no'}"
                f"{'' if first else 'thing'}."
            )


def _zones(schemas: Sequence[pa.Schema]) -> dict[str, str]:
    """Column name to time zone, for points in time."""
    return {
        field.name: field.type.tz
        for schema in reversed(schemas)
        for field in schema
        if pa.types.is_timestamp(field.type) and field.type.tz
    }


def _clock_sql(column: str, zone: str) -> str:
    """Left alone, DuckDB gives the clock of the zone of this machine."""
    offset = re.fullmatch(r"([-+])([0-9]{2}):([0-9]{2})", zone)
    if offset is None:
        return f"timezone({quoted(zone)}, {column})"
    sign, hours, minutes = offset.groups()
    return (
        f"(timezone('UTC', {column}) {sign} INTERVAL {int(hours)} HOUR "
        f"{sign} INTERVAL {int(minutes)} MINUTE)"
    )


def _footer(path: Path) -> tuple[pa.Schema, int]:
    """Columns and number of rows."""
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        text = str(error).partition("\n")[0].rstrip(".")
        raise SourceError(
            f"{address_of(path)} is not a Parquet file, or it is damaged: {text}."
        ) from error
