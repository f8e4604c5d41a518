"""Arrow columns as a table has them: one value of a plain type in each cell.

Published data sets nest: structs in structs, vectors, lists. Structs become columns
`a.b`, short vectors columns `a_0`, `a_1`; a list has no place in a table.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain.errors import SourceError, listing
from kerastrain.events import note
from kerastrain.source import check_names

__all__ = ["Flat", "Special", "plain", "plain_type"]

MAX_VECTOR = 64
BLOB_ROWS = 64  # at 5 MB an image, 320 MB


@dataclass(frozen=True)
class Special:
    """A column that is read in a way of its own: what it becomes, and how."""

    kind: pa.DataType
    convert: Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class _Leaf:
    """A column of the table: names of structs' fields, and places in vectors, on the
    way to it from a column of the data set."""

    column: str
    steps: tuple[str | int, ...]
    special: Special | None
    kind: pa.DataType

    def take(self, batch: pa.RecordBatch) -> pa.Array:
        array = batch.column(self.column)
        for step in self.steps:
            array = _storage(array)
            is_field = isinstance(step, str)
            take = pc.struct_field if is_field else pc.list_element
            array = take(array, step)
        array = plain(self.special.convert(array) if self.special else array)
        return array if array.type == self.kind else array.cast(self.kind)


class Flat:
    """The flat columns of a nested schema.

    Args:
        where: what messages call the data set.
        skip_nested: leave out, with a note, what would otherwise be an error.
        special: by the name of the flat column, such as `"a.b"`.

    Raises:
        SourceError: lists, or vectors of over 64 values, each named with its type.
    """

    def __init__(
        self,
        schema: pa.Schema,
        where: str,
        *,
        skip_nested: bool = False,
        special: Mapping[str, Special] | None = None,
    ):
        self._where = where
        self._special = special or {}
        self._leaves: dict[str, _Leaf] = {}
        self.refused: dict[str, str] = {}
        names: list[str] = []
        for field in schema:
            for name, leaf in self._walk(field.name, field.type, field.name, ()):
                names.append(name)
                self._leaves[name] = leaf
        if self.refused:
            self._refuse(skip_nested)
        check_names(names, where)
        self.schema = pa.schema([(n, leaf.kind) for n, leaf in self._leaves.items()])

    def sources(self, names: Iterable[str]) -> list[str]:
        """Columns of the data set that the named flat columns are made of."""
        return list(dict.fromkeys(self._leaves[name].column for name in names))

    def batch(self, batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
        """The named flat columns of a nested batch.

        Raises:
            SourceError: a cell does not fit the type of its column.
        """
        arrays = []
        for name in names:
            try:
                arrays.append(self._leaves[name].take(batch))
            except (pa.ArrowException, OSError) as error:
                raise SourceError(
                    f"Cannot read column '{name}' of {self._where}: {error}."
                ) from error
        return pa.RecordBatch.from_arrays(arrays, names=list(names))

    def rows_at_once(self, names: Iterable[str], batch_rows: int) -> int:
        """`batch_rows`, or few where cells hold whole files."""
        kinds = (self.schema.field(name).type for name in names)
        has_files = any(pa.types.is_binary(kind) for kind in kinds)
        return min(batch_rows, BLOB_ROWS) if has_files else batch_rows

    def _walk(
        self, name: str, kind: pa.DataType, column: str, steps: tuple[str | int, ...]
    ) -> Iterator[tuple[str, _Leaf]]:
        special = self._special.get(name)
        while isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        if special is not None:
            yield name, _Leaf(column, steps, special, special.kind)
        elif pa.types.is_struct(kind):
            for field in kind:
                path = (*steps, field.name)
                yield from self._walk(f"{name}.{field.name}", field.type, column, path)
        elif pa.types.is_nested(kind) and not _is_vector(kind):
            self.refused[name] = _told(kind)
        elif pa.types.is_fixed_size_list(kind):
            for i in range(kind.list_size):
                item = name if kind.list_size == 1 else f"{name}_{i}"
                yield from self._walk(item, kind.value_type, column, (*steps, i))
        else:
            yield name, _Leaf(column, steps, None, plain_type(kind))

    def _refuse(self, skip_nested: bool) -> None:
        shown = listing(f"{name} ({kind})" for name, kind in self.refused.items())
        if not skip_nested:
            raise SourceError(
                f"{self._where} has columns that hold more than one value in a cell: "
                f"{shown}. Leave them out: --set source.skip_nested=true."
            )
        note(
            "nested_columns_skipped",
            f"Columns of {self._where} that hold more than one value in a cell are "
            f"left out: {shown}.",
            columns=list(self.refused),
        )


def _is_vector(kind: pa.DataType) -> bool:
    is_short = pa.types.is_fixed_size_list(kind) and 0 < kind.list_size <= MAX_VECTOR
    return is_short and not pa.types.is_nested(kind.value_type)


def _told(kind: pa.DataType) -> str:
    """`"list of float"`, `"28 x 28 x uint8"`."""
    if isinstance(kind, pa.BaseExtensionType):
        return _told(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        return f"{kind.list_size} x {_told(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"records of {listing([field.name for field in kind], limit=5)}"
    if pa.types.is_map(kind) or not pa.types.is_nested(kind):
        return str(kind)
    return f"list of {_told(kind.value_type)}"


def _storage(array: pa.Array) -> pa.Array:
    while isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    return array


def plain(array: pa.Array) -> pa.Array:
    """The array in a type that the profile and DuckDB both know."""
    array = _storage(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary.cast(pa.string()).take(array.indices))
    if pa.types.is_timestamp(kind) and kind.tz:
        return pc.local_timestamp(array)  # DuckDB would take this machine's zone
    wanted = plain_type(kind)
    return array if wanted == kind else array.cast(wanted)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that `plain` gives."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_timestamp(kind):
        return pa.timestamp(kind.unit)
    for new, tests in _PLAIN.items():
        if any(test(kind) for test in tests):
            return new
    return kind


_PLAIN: dict[pa.DataType, tuple[Callable[[pa.DataType], bool], ...]] = {
    pa.string(): (
        pa.types.is_dictionary,
        pa.types.is_null,
        pa.types.is_large_string,
        pa.types.is_string_view,
    ),
    pa.binary(): (
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    ),
    pa.float64(): (pa.types.is_decimal,),
    pa.float32(): (pa.types.is_float16,),
}


def labels(names: Sequence[str]) -> Special:
    """Positions in `names` become names; a position outside, such as -1, is missing."""
    texts = pa.array(list(names), pa.string())

    def convert(positions: pa.Array) -> pa.Array:
        inside = pc.and_(pc.greater_equal(positions, 0), pc.less(positions, len(texts)))
        return texts.take(pc.if_else(inside, positions, None))

    return Special(pa.string(), convert)


def tensor_type(kind: pa.DataType, shape: Iterable[int | None]) -> pa.DataType:
    """Lists in lists for a tensor of one row; None is an axis of any length."""
    for size in reversed(list(shape)):
        kind = pa.list_(kind) if size is None else pa.list_(kind, size)
    return kind


def from_numpy(values: np.ndarray) -> pa.Array:
    """`(rows,)` as it is, `(rows, n)` as vectors.

    Raises:
        TypeError, ValueError: values that Arrow has no type for.
    """
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


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


def digest(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """SHA-256 of names, types and values; it depends on how batches are cut."""
    sink = _HashFile()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.hash.hexdigest()
