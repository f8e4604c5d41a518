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
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.memory import connect
from kerastrain.source import Source, check_names, quoted, stream, unreadable

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
        self.paths = find_files(data)
        self.name = files_name(self.paths)
        footers = [_footer(path) for path in self.paths]
        _check_columns(self.paths, [schema for schema, _ in footers])
        self.num_rows = sum(num_rows for _, num_rows in footers)
        self._zones = _zones(footers[0][0])
        self._connection = connect()
        self._fingerprint: dict[str, Any] = {}
        self._columns = self._projections()
        self.schema = self._schema()

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        query = self._query(self.checked_columns(columns))
        return stream(self._connection, query, batch_rows, self.name)

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        return connection.sql(self._query(list(self._columns)))

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or files_fingerprint(self.paths)
        return self._fingerprint

    def _query(self, columns: Sequence[str]) -> str:
        shown = ", ".join(self._columns[name] for name in columns)
        return f"SELECT {shown} FROM {_reader(self.paths)}"

    def _projections(self) -> dict[str, str]:
        """Column name to its expression, in the order of the first file."""
        try:
            relation = self._connection.sql(f"FROM {_reader(self.paths)}")
        except duckdb.Error as error:
            raise unreadable(self.name, error) from error
        found = {}
        for name, kind in zip(relation.columns, relation.types, strict=True):
            column, read_as = quoted(name, '"'), READ_AS.get(kind.id)
            if read_as:
                found[name] = f"CAST({column} AS {read_as}) AS {column}"
            elif kind.id == "timestamp with time zone":
                found[name] = f"{_clock_sql(column, self._zones[name])} AS {column}"
            else:
                found[name] = column
        return found

    def _schema(self) -> pa.Schema:
        query = self._query(list(self._columns)) + " LIMIT 0"
        return self._connection.sql(query).to_arrow_table().schema


def _reader(paths: Sequence[Path]) -> str:
    files = ", ".join(quoted(escape(str(path))) for path in paths)
    is_hive = all(_partitions(path) for path in paths)
    return (
        f"read_parquet([{files}], union_by_name=true, "
        f"hive_partitioning={str(is_hive).lower()})"
    )


def _partitions(path: Path) -> list[str]:
    """Names of the columns that folders above a file give, as in `year=2020`."""
    return [part.partition("=")[0] for part in path.parts[:-1] if "=" in part]


def _zones(schema: pa.Schema) -> dict[str, str]:
    """Column name to time zone, for points in time."""
    return {f.name: f.type.tz or "UTC" for f in schema if pa.types.is_timestamp(f.type)}


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
            f"{path} is not a Parquet file, or it is damaged: {text}."
        ) from error


def _check_columns(paths: Sequence[Path], schemas: Sequence[pa.Schema]) -> None:
    first, known = schemas[0], [set(_partitions(path)) for path in paths]
    for path, schema, folders in zip(paths, schemas, known, strict=True):
        check_names(schema.names, path.name)
        here, there = set(schema.names) | folders, set(first.names) | known[0]
        if here != there:
            lacks = [
                f"{file.name} lacks {listing(sorted(names), limit=5)}"
                for file, names in ((path, there - here), (paths[0], here - there))
                if names
            ]
            raise SourceError(
                f"{path.name} and {paths[0].name} have different columns: "
                f"{', and '.join(lacks)}."
            )
        for field in schema:
            other = first.field(field.name).type if field.name in first.names else None
            if other is not None and not _are_alike(field.type, other):
                raise SourceError(
                    f"Column '{field.name}' is {field.type} in {path.name}, but "
                    f"{other} in {paths[0].name}. Write it as one type."
                )


def _are_alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Equal, or numbers of different width, or texts, or points in time."""
    kinds = (_is_number, _is_text, pa.types.is_temporal)
    is_null = pa.types.is_null(one) or pa.types.is_null(other)
    return one == other or is_null or any(k(one) and k(other) for k in kinds)


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in tests)
