"""Rows of a data base: kept on disk, in types that their values have."""

import datetime as dt
import decimal
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kerastrain.events import warn
from kerastrain.flat import digest

__all__ = ["KeptRows", "typed"]

# A piece is about 4 MB, however wide the rows are.
_PIECE_BYTES = 4 << 20
_FIRST_ROWS = 500
_MOST_ROWS = 10_000
_KINDS: dict[type, pa.DataType] = {
    type(None): pa.null(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    dt.datetime: pa.timestamp("us"),
    bytes: pa.binary(),
    str: pa.string(),
}
# What drivers give beside these, as one of these; anything else is read as its text.
_PLAIN: dict[type, Callable[[Any], Any]] = {
    decimal.Decimal: float,
    dt.datetime: lambda value: value.replace(tzinfo=None),  # the clock of the zone
    dt.date: lambda value: dt.datetime(value.year, value.month, value.day),
    bytearray: bytes,
    memoryview: bytes,
    **dict.fromkeys((dict, list, tuple), lambda value: json.dumps(value, default=str)),
}


class KeptRows:
    """Rows in a file that goes when this object goes.

    Where a later batch has another type, the next part is begun; parts of several types
    become one file at the end. So a data base is asked once, also one that allows any
    type in a cell.

    Args:
        batches: of the same columns. `null` grows to any type, int64 to float64, and
            anything to text.
        names: of the columns, should there be no batch.

    Raises:
        OSError: no room on the disk, or no right to write.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], names: Sequence[str]):
        self.folder = Path(tempfile.mkdtemp(prefix="kerastrain-sql-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        parts = _Parts(self.folder)
        schema = pa.schema([(name, pa.null()) for name in names])
        self.num_rows = 0
        with parts:
            for batch in batches:
                parts.write(batch)
                schema = batch.schema
                self.num_rows += batch.num_rows
        self.schema = pa.schema([(f.name, _known(f.type)) for f in schema])
        if len(parts.paths) != 1 or self.schema != schema:
            parts = parts.merged(self.schema)
        self.path = parts.paths[0]

    def sha256(self) -> str:
        """Of names, types and values."""
        return digest(self.schema, _read(self.path))


class _Parts:
    """Parquet files, one for each schema."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: pq.ParquetWriter | None = None
        self.paths: list[Path] = []

    def __enter__(self) -> "_Parts":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        writer = self._writer
        if writer is None or writer.schema != batch.schema:
            writer = self.open(batch.schema)
        writer.write_batch(batch)

    def open(self, schema: pa.Schema) -> pq.ParquetWriter:
        self.__exit__()
        self.paths.append(self._folder / f"part{len(self.paths)}.parquet")
        self._writer = pq.ParquetWriter(self.paths[-1], schema)
        return self._writer

    def merged(self, schema: pa.Schema) -> "_Parts":
        """All rows in one file of a schema."""
        folder = self._folder / "all"
        folder.mkdir()
        with _Parts(folder) as merged:
            merged.open(schema)
            for path in self.paths:
                for batch in _read(path):
                    arrays = [
                        _array(array.to_pylist(), kind) if array.type != kind else array
                        for array, kind in zip(batch.columns, schema.types, strict=True)
                    ]
                    merged.write(pa.RecordBatch.from_arrays(arrays, schema=schema))
                path.unlink()
        return merged


def typed(
    fetch: Callable[[int], Sequence[Sequence[Any]]], names: Sequence[str], where: str
) -> Iterator[pa.RecordBatch]:
    """Batches of fetched rows, in types that hold all values so far.

    A column of several types is text, with a warning.

    Args:
        fetch: at most so many of the next rows; none at the end.
    """
    found = [{pa.null()} for _ in names]
    num_rows = _FIRST_ROWS
    while rows := fetch(num_rows):
        columns = [_plain(values) for values in zip(*rows, strict=True)]
        found = [k | _kinds(v) for k, v in zip(found, columns, strict=True)]
        types = [_common(kinds) for kinds in found]
        arrays = [_array(v, kind) for v, kind in zip(columns, types, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(names))
        yield batch
        row_bytes = max(1, batch.nbytes // batch.num_rows)
        num_rows = min(_MOST_ROWS, max(1, _PIECE_BYTES // row_bytes))
    for name, kinds in zip(names, found, strict=True):
        _warn_of_mixed(name, kinds - {pa.null()}, where)


def _plain(values: Sequence[Any]) -> Sequence[Any]:
    """With every value as one of the types in `_KINDS`."""
    for kind in set(map(type, values)):
        if kind in _PLAIN or kind not in _KINDS:
            plain = _PLAIN.get(kind, str)
            values = [plain(v) if type(v) is kind else v for v in values]
    return values


def _kinds(values: Sequence[Any]) -> set[pa.DataType]:
    kinds = {_KINDS[kind] for kind in set(map(type, values))}
    if pa.int64() in kinds and not all(
        -(2**63) <= v < 2**63 for v in values if type(v) is int
    ):
        kinds.add(pa.float64())
    return kinds


def _common(kinds: set[pa.DataType]) -> pa.DataType:
    known = kinds - {pa.null()}
    if known == {pa.int64(), pa.float64()}:
        return pa.float64()
    if len(known) > 1:
        return pa.string()
    return next(iter(known), pa.null())


def _known(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == pa.null() else kind


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        values = [v if v is None or isinstance(v, str) else _text(v) for v in values]
    elif kind == pa.float64():
        values = [v if v is None else float(v) for v in values]
    return pa.array(values, kind)


def _text(value: Any) -> str:
    is_bytes = isinstance(value, bytes)
    return value.decode("utf-8", "replace") if is_bytes else str(value)


def _warn_of_mixed(name: str, kinds: set[pa.DataType], where: str) -> None:
    if len(kinds) > 1 and _common(kinds) == pa.string():
        shown = sorted(map(str, kinds))
        warn(
            "column_mixed_types",
            f"Column '{name}' of {where} holds values of several types "
            f"({', '.join(shown)}). All are read as text.",
            column=name,
            types=shown,
        )


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches()
