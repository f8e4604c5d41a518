"""JSON: an array of objects, or an object in each line."""

import json
import lzma
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from kerastrain.errors import SourceError
from kerastrain.events import warn
from kerastrain.files import files_fingerprint, files_name, find_files, with_rows
from kerastrain.memory import connect
from kerastrain.remote import address_of
from kerastrain.selection import in_quotes
from kerastrain.source import Source, check_names, quoted, stream, unreadable
from kerastrain.textfiles import compression_of, damaged, open_bytes, rewrite

__all__ = ["JsonSource"]

# Of one object. DuckDB takes a multiple of it for each thread, so the most that an
# object of one row needs is asked for only where the least is too little.
_OBJECT_BYTES = (16 << 20, 1 << 30)
_READ_AS = {"decimal": "DOUBLE", "hugeint": "DOUBLE", "uhugeint": "DOUBLE"}
_READ_AS |= {"uuid": "VARCHAR", "time": "VARCHAR", "null": "VARCHAR"}
_UNPACKED_BY_DUCKDB = {"gzip": ".gz", "zstd": ".zst", "none": ""}


class JsonSource(Source):
    """JSON files: an array of objects, or an object in each line.

    Types go by all rows. Nested objects are columns of their own, as `address.city`;
    a key that an object lacks is missing there. Lists stay lists, which nothing is
    learnt from. A column of several types is read as text, with a warning.
    """

    def __init__(self, data: Any, max_bad_rows: float = 0.0):
        found = find_files(data)
        self.paths = with_rows(found, [_has_objects(path) for path in found])
        self.name = files_name(self.paths)
        self._folder = Path(tempfile.mkdtemp(prefix="kerastrain-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._readable = [self._as_duckdb_reads(path) for path in self.paths]
        self._connection = connect()
        self._fingerprint: dict[str, Any] = {}
        self._object_bytes = _OBJECT_BYTES[0]
        self._columns = self._flat_columns()
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
        shown = ", ".join(f"{self._columns[n]} AS {in_quotes(n)}" for n in columns)
        return f"SELECT {shown} FROM {self._reader()}"

    def _reader(self) -> str:
        """Where nothing is guessed from a part: not types, not which keys there are."""
        files = ", ".join(quoted(escape(str(path))) for path in self._readable)
        return (
            f"read_json([{files}], sample_size=-1, maximum_sample_files=-1, "
            "union_by_name=true, maximum_depth=-1, map_inference_threshold=-1, "
            "field_appearance_threshold=0, records='true', hive_partitioning=false, "
            f"maximum_object_size={self._object_bytes})"
        )

    def _as_duckdb_reads(self, path: Path) -> Path:
        """The file, or a copy where its ending hides how it is packed."""
        packing = compression_of(path)
        if _UNPACKED_BY_DUCKDB.get(packing) == _packed_ending(path):
            return path
        copy = self._folder / f"{len(list(self._folder.iterdir()))}.json"
        rewrite(path, "utf-8", copy, one_newline=False)
        return copy

    def _flat_columns(self) -> dict[str, str]:
        """Column name to the expression that gives it."""
        found: list[tuple[str, str]] = []
        columns = self._top_columns()
        check_names(self._as_written([name for name, _ in columns]), self.name)
        for name, kind in columns:
            found += _flattened(name, in_quotes(name), kind)
        mixed = [name for name, expression in found if expression.endswith("->> '$'")]
        for name in mixed:
            warn(
                "column_mixed_types",
                f"Column '{name}' of {self.name} holds values of several types. All "
                "are read as text.",
                column=name,
            )
        check_names([name for name, _ in found], self.name)
        return dict(found)

    def _top_columns(self) -> list[tuple[str, Any]]:
        for size in _OBJECT_BYTES:
            self._object_bytes = size
            try:
                relation = self._connection.sql(f"FROM {self._reader()}")
                return list(zip(relation.columns, relation.types, strict=True))
            except duckdb.Error as error:
                is_last = size == _OBJECT_BYTES[-1]
                if is_last or "maximum_object_size" not in str(error):
                    raise self._refusal(error) from error
        raise AssertionError

    def _as_written(self, names: list[str]) -> list[str]:
        """Names in the files: beside `a` DuckDB calls a key `A` in them `A_1`."""
        lower = {name.lower() for name in names}
        written = []
        for name in names:
            key, _, number = name.rpartition("_")
            is_clash = number.isdecimal() and key.lower() in lower and key not in names
            written.append(key if is_clash and self._has_key(key) else name)
        return written

    def _has_key(self, key: str) -> bool:
        files = ", ".join(quoted(escape(str(path))) for path in self._readable)
        found = self._connection.sql(
            f"SELECT bool_or(list_contains(json_keys(json), {quoted(key)})) "
            f"FROM read_json_objects([{files}], "
            f"maximum_object_size={self._object_bytes})"
        )
        return bool(found.fetchall()[0][0])

    def _refusal(self, error: Exception) -> SourceError:
        """With the file and line of the first object that is none."""
        for path in self.paths:
            found = _first_broken(path)
            if found is not None:
                line, reason = found
                shown = address_of(path)
                return SourceError(f"{shown} line {line} is not JSON: {reason}.")
        if "non-record" in str(error):
            return SourceError(
                f"{self.name} holds no objects: expected an array of them, or one in "
                'each line, as {"age": 31, "city": "Rome"}.'
            )
        return unreadable(self.name, error)


def _packed_ending(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix if suffix in (".gz", ".zst") else ""


def _flattened(name: str, expression: str, kind: Any) -> list[tuple[str, str]]:
    """Names and expressions; an object is a column for each key."""
    if kind.id == "struct":
        parts: list[tuple[str, str]] = []
        for key, inner in kind.children:
            value = f"struct_extract({expression}, {quoted(key)})"
            parts += _flattened(f"{name}.{key}", value, inner)
        return parts
    if str(kind) == "JSON":
        return [(name, f"{expression} ->> '$'")]
    if kind.id == "timestamp with time zone":
        return [(name, f"timezone('UTC', {expression})")]
    read_as = _READ_AS.get(kind.id)
    return [(name, f"CAST({expression} AS {read_as})" if read_as else expression)]


def _has_objects(path: Path) -> bool:
    """False for a file of white space, and for an empty array."""
    try:
        with open_bytes(path, compression_of(path)) as file:
            while chunk := file.read(1 << 16):
                text = chunk.strip(b"\xef\xbb\xbf \t\r\n")
                if text:
                    return text.replace(b" ", b"") != b"[]"
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise damaged(path, error) from error
    return False


def _first_broken(path: Path) -> tuple[int, str] | None:
    """Line and reason of what Python cannot read either; None where it can."""
    try:
        with open_bytes(path, compression_of(path)) as file:
            for number, line in enumerate(file, start=1):
                if number == 1 and line.lstrip(b"\xef\xbb\xbf \t")[:1] == b"[":
                    return _broken_array(path)
                try:
                    if line.strip():
                        json.loads(line)
                except ValueError as error:
                    return number, _reason(error)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise damaged(path, error) from error
    return None


def _broken_array(path: Path) -> tuple[int, str] | None:
    with open_bytes(path, compression_of(path)) as file:
        try:
            json.loads(file.read())
        except json.JSONDecodeError as error:
            return error.lineno, _reason(error)
    return None


def _reason(error: ValueError) -> str:
    return str(error).partition(":")[0].lower()
