"""JSON: an array of objects, or an object in each line."""

from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.errors import SourceError
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.memory import connect
from kerastrain.source import Source, check_names, quoted, stream, unreadable
from kerastrain.textfiles import compression_of, open_bytes

__all__ = ["JsonSource"]

# One object of 64 MB, for arrays in one line and for long texts.
_MAX_OBJECT_BYTES = 64 << 20
_READ_AS = {"decimal": "DOUBLE", "hugeint": "DOUBLE", "uhugeint": "DOUBLE"}
_READ_AS |= {"uuid": "VARCHAR", "time": "VARCHAR", "json": "VARCHAR"}


class JsonSource(Source):
    """JSON files: an array of objects, or an object in each line.

    Types go by all rows. Nested objects are columns of their own, as `address.city`;
    a key that an object lacks is missing there. Lists stay lists, which nothing is
    learnt from.
    """

    def __init__(self, data: Any, max_bad_rows: float = 0.0):
        self.paths = find_files(data)
        self.name = files_name(self.paths)
        self._connection = connect()
        self._fingerprint: dict[str, Any] = {}
        self._columns = self._flat_columns()
        check_names(list(self._columns), self.name)
        query = self._query(list(self._columns)) + " LIMIT 0"
        self.schema = self._connection.sql(query).to_arrow_table().schema

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
        shown = ", ".join(
            f"{self._columns[name]} AS {quoted(name, chr(34))}" for name in columns
        )
        return f"SELECT {shown} FROM {self._reader()}"

    def _reader(self) -> str:
        files = ", ".join(quoted(escape(str(path))) for path in self.paths)
        return (
            f"read_json([{files}], sample_size=-1, union_by_name=true, "
            f"maximum_depth=-1, maximum_object_size={_MAX_OBJECT_BYTES}, "
            "format='auto', records='true', hive_partitioning=false)"
        )

    def _flat_columns(self) -> dict[str, str]:
        """Column name to the expression that gives it."""
        try:
            relation = self._connection.sql(f"FROM {self._reader()}")
        except duckdb.Error as error:
            raise self._refused(error) from error
        found: dict[str, str] = {}
        for name, kind in zip(relation.columns, relation.types, strict=True):
            found |= _flattened(name, quoted(name, '"'), kind)
        return found

    def _refused(self, error: Exception) -> SourceError:
        """With the file and line of the first object that is none."""
        for path in self.paths:
            line = _first_broken(path)
            if line is not None:
                return SourceError(f"{path} line {line[0]} is not JSON: {line[1]}.")
        return unreadable(self.name, error)


def _flattened(name: str, expression: str, kind: Any) -> dict[str, str]:
    if kind.id == "struct":
        parts: dict[str, str] = {}
        for key, inner in kind.children:
            parts |= _flattened(
                f"{name}.{key}", f"struct_extract({expression}, {quoted(key)})", inner
            )
        return parts
    read_as = _READ_AS.get(kind.id)
    return {name: f"CAST({expression} AS {read_as})" if read_as else expression}


def _first_broken(path: Path) -> tuple[int, str] | None:
    """Line and reason of what Python cannot read either; None in an array."""
    import json

    with open_bytes(path, compression_of(path)) as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.lstrip()[:1] == b"[":
                return None
            try:
                if line.strip():
                    json.loads(line)
            except ValueError as error:
                return number, str(error).partition(":")[0]
    return None
