"""Tables in memory: pandas, polars, pyarrow, or a mapping of arrays."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain.errors import SourceError
from kerastrain.events import warn
from kerastrain.source import Source, check_names

__all__ = ["FrameSource"]

CHUNK_ROWS = 1 << 20


class FrameSource(Source):
    """A pandas, polars or pyarrow table, or a mapping of names to arrays.

    The index of a pandas frame is ignored. Categories are read as plain strings,
    decimals as float64. An object column of mixed types is read as text, with a
    warning.
    """

    name = "the frame"

    def __init__(self, data: Any, max_bad_rows: float = 0.0):
        names, columns = _columns(data)
        check_names(names, self.name)
        arrays = [_plain(column) for column in columns]
        self._table = pa.table(dict(zip(names, arrays, strict=True)))
        self.schema = self._table.schema
        self.num_rows = self._table.num_rows
        self._fingerprint: dict[str, Any] = {}

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        table = self._table.select(self.checked_columns(columns))
        return iter(table.to_batches(max_chunksize=batch_rows))

    def relation(
        self, connection: duckdb.DuckDBPyConnection
    ) -> duckdb.DuckDBPyRelation:
        return connection.from_arrow(self._table)

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            rows, columns = self._table.shape
            digest = _digest(self._table)
            self._fingerprint = {
                "kind": "frame",
                "rows": rows,
                "columns": columns,
                "sha256": digest,
            }
        return self._fingerprint


def _columns(data: Any) -> tuple[list[str], list[pa.ChunkedArray]]:
    """Names and Arrow columns of any table that we know."""
    if _is_pandas(data):
        names = [str(name) for name in data.columns]
        check_names(names, FrameSource.name)  # a name must pick one column
        series = [data.iloc[:, i] for i in range(len(names))]
        return names, list(map(_from_pandas, names, series))
    table = _as_table(data)
    return list(table.column_names), list(table.columns)


def _is_pandas(data: Any) -> bool:
    """Without importing pandas, which a user of polars need not have."""
    return type(data).__module__.split(".")[0] == "pandas" and hasattr(data, "columns")


def _as_table(data: Any) -> pa.Table:
    data = data.collect() if hasattr(data, "collect") else data  # polars.LazyFrame
    if isinstance(data, Mapping):
        arrays = [_from_pandas(str(name), values) for name, values in data.items()]
        data = _from_arrays([str(name) for name in data], arrays)
    try:
        return pa.table(data)
    except (TypeError, ValueError, NotImplementedError) as error:
        kind = f"{type(data).__module__}.{type(data).__qualname__}"
        raise SourceError(
            f"Cannot read data of type {kind}: {error}. Expected a path, or a "
            "pandas, polars or pyarrow table."
        ) from error


def _from_arrays(names: list[str], arrays: list[pa.ChunkedArray]) -> pa.Table:
    if len({len(array) for array in arrays}) > 1:
        lengths = ", ".join(
            f"{n}: {len(a)}" for n, a in zip(names, arrays, strict=True)
        )
        raise SourceError(f"Columns of the frame differ in length: {lengths}.")
    return pa.table(arrays, names=names)


def _from_pandas(name: str, values: Any) -> pa.ChunkedArray:
    """One column; text with a warning when its values are of several types."""
    try:
        return _chunked(pa.array(values, from_pandas=True))
    except (TypeError, ValueError, NotImplementedError, OverflowError) as error:
        if str(getattr(values, "dtype", "object")) != "object":
            raise SourceError(
                f"Column '{name}' of the frame cannot be read: {error}. "
                "Convert it or leave it out."
            ) from error
        return _as_text(name, values)


def _as_text(name: str, values: Any) -> pa.ChunkedArray:
    texts = [None if _is_missing(value) else str(value) for value in values]
    kinds = sorted({type(value).__name__ for value in values if not _is_missing(value)})
    warn(
        "column_mixed_types",
        f"Column '{name}' of the frame holds values of several types "
        f"({', '.join(kinds)}). All are read as text.",
        column=name,
        types=kinds,
    )
    return _chunked(pa.array(texts, pa.string()))


def _is_missing(value: Any) -> bool:
    """None, NaN, NaT and NA; each but None differs from itself."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def _chunked(array: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that the profile and DuckDB both know."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(
            pa.chunked_array([c.storage for c in column.chunks], kind.storage_type)
        )
    if pa.types.is_dictionary(kind):
        texts = [c.dictionary.cast(pa.string()).take(c.indices) for c in column.chunks]
        return pa.chunked_array(texts, pa.string())
    if pa.types.is_timestamp(kind) and kind.tz:
        return pc.local_timestamp(column)  # DuckDB would take this machine's zone
    if pa.types.is_decimal(kind):
        return _cast(column, pa.float64())
    if pa.types.is_float16(kind):
        return _cast(column, pa.float32())
    if pa.types.is_null(kind) or _is_wide_text(kind):
        return _cast(column, pa.string())
    return column


def _is_wide_text(kind: pa.DataType) -> bool:
    return pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Piece by piece: offsets of `string` reach 2 GB, and a column may have more."""
    pieces = [
        chunk.slice(start, CHUNK_ROWS).cast(kind)
        for chunk in column.chunks
        for start in range(0, len(chunk), CHUNK_ROWS)
    ]
    return pa.chunked_array(pieces, kind)


class _HashFile:
    """A file to write to that keeps nothing but the hash."""

    closed = False

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return len(data)

    def flush(self) -> None:
        pass


def _digest(table: pa.Table) -> str:
    """SHA-256 of names, types and values, however the table is cut into chunks."""
    sink = _HashFile()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), table.schema) as writer:
        for start in range(0, table.num_rows, CHUNK_ROWS):
            writer.write_table(table.slice(start, CHUNK_ROWS).combine_chunks())
    return sink.hash.hexdigest()
