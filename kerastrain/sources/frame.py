"""Tables in memory: pandas, polars, pyarrow, arrays with or without names."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from kerastrain.errors import SourceError
from kerastrain.events import warn
from kerastrain.flat import digest, plain, plain_type
from kerastrain.source import Source, check_names

__all__ = ["FrameSource"]

CHUNK_ROWS = 1 << 20


class FrameSource(Source):
    """A table in memory: pandas, polars, pyarrow, arrays by name, records or (X, y).

    Of `(X, y)` a matrix X becomes columns `x_0`, `x_1`, and y is called `target`
    unless it has a name of its own. A structured NumPy array is a table of its fields.
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
    data = _mapping(data)
    if _is_pandas(data):
        names = [str(name) for name in data.columns]
        check_names(names, FrameSource.name)  # a name must pick one column
        series = [data.iloc[:, i] for i in range(len(names))]
        return names, list(map(_from_pandas, names, series))
    table = _as_table(data)
    return list(table.column_names), list(table.columns)


def _mapping(data: Any) -> Any:
    """Columns by name for `(X, y)`, records and structured arrays; else `data`."""
    if isinstance(data, tuple):
        return _features_and_target(data)
    if isinstance(data, list) and data and all(isinstance(r, Mapping) for r in data):
        names = dict.fromkeys(name for record in data for name in record)
        return {name: _series([r.get(name) for r in data]) for name in names}
    if isinstance(data, np.ndarray) and data.dtype.names:
        return {name: data[name] for name in data.dtype.names}
    return data


def _series(values: list[Any]) -> np.ndarray:
    """As an array of objects: one that is not told what it holds would be guessed."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _features_and_target(data: tuple[Any, ...]) -> pa.Table:
    """`(X, y)` -> one table; the target is called `target`, or as its series is."""
    if len(data) != 2:
        raise SourceError(f"Expected (X, y), got a tuple of {len(data)}.")
    rows, target = data
    if isinstance(rows, np.ndarray | list):
        rows = {"x": _matrix(rows)}
    names, columns = _columns(rows)
    name = getattr(target, "name", None)
    names.append("target" if name in (None, "") else str(name))
    check_names(names, FrameSource.name)
    columns.append(_from_pandas(names[-1], _one_column(target)))
    return _from_arrays(names, columns)


def _matrix(rows: Any) -> np.ndarray:
    shape = np.shape(rows)
    if len(shape) != 2:
        raise SourceError(
            f"X of (X, y) should have rows and columns, got the shape {shape}."
        )
    return np.asarray(rows)


def _spread(columns: Mapping[Any, Any]) -> dict[str, Any]:
    """Columns by name; a matrix is columns `name_0`, `name_1`."""
    spread: dict[str, Any] = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            width = values.shape[1]
            spread |= {f"{name}_{i}": values[:, i] for i in range(width)}
        else:
            spread[str(name)] = values
    return spread


def _one_column(target: Any) -> Any:
    """Values of y, one a row."""
    shape = tuple(getattr(target, "shape", None) or np.shape(target))
    if len(shape) == 1:
        return target
    if len(shape) == 2 and shape[1] == 1:
        return np.asarray(target)[:, 0]
    raise SourceError(
        f"y of (X, y) should have one value a row, got the shape {shape}. For "
        "one column per class give the class: y.argmax(axis=1)."
    )


def _is_pandas(data: Any) -> bool:
    """Without importing pandas, which a user of polars need not have."""
    return type(data).__module__.split(".")[0] == "pandas" and hasattr(data, "columns")


def _as_table(data: Any) -> pa.Table:
    data = data.collect() if hasattr(data, "collect") else data  # polars.LazyFrame
    if isinstance(data, Mapping):
        columns = _spread(data)
        arrays = [_from_pandas(name, values) for name, values in columns.items()]
        data = _from_arrays(list(columns), arrays)
    try:
        return pa.table(data)
    except (TypeError, ValueError, NotImplementedError) as error:
        kind = f"{type(data).__module__}.{type(data).__qualname__}"
        reason = str(error).rstrip(".")
        raise SourceError(
            f"Cannot read data of type {kind}: {reason}. Expected a path, a pandas, "
            "polars or pyarrow table, a mapping of arrays, a list of records or (X, y)."
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
    if hasattr(values, "sparse"):
        values = values.sparse.to_dense()
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        with contextlib.suppress(UnicodeDecodeError):
            values = np.char.decode(values, "utf-8")
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
    """Piece by piece: offsets of `string` reach 2 GB, and a column may have more."""
    wanted = plain_type(column.type)
    if wanted == column.type:
        return column
    pieces = [
        plain(chunk.slice(start, CHUNK_ROWS))
        for chunk in column.chunks
        for start in range(0, len(chunk), CHUNK_ROWS)
    ]
    return pa.chunked_array(pieces, wanted)


def _digest(table: pa.Table) -> str:
    """SHA-256 of names, types and values, however the table is cut into chunks."""
    starts = range(0, table.num_rows, CHUNK_ROWS)
    pieces = (table.slice(start, CHUNK_ROWS).combine_chunks() for start in starts)
    return digest(table.schema, (b for piece in pieces for b in piece.to_batches()))
