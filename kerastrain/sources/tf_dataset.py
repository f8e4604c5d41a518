"""`tf.data.Dataset` objects."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from kerastrain.errors import SourceError, listing
from kerastrain.flat import Flat, digest, from_numpy, tensor_type
from kerastrain.published import one_line
from kerastrain.source import Source
from kerastrain.tensors import numpy_elements

__all__ = ["TfDatasetSource"]

SNAPSHOT_ROWS = 1024
PARTS = ("x", "target", "weight")


class TfDatasetSource(Source):
    """A `tf.data.Dataset` of dicts, of `(dict, y)` or of `(X, y, weight)`.

    It is read once, into an Arrow file in the folder for temporary files that goes
    with the source: a data set that shuffles gives another order each time. Keys of
    dicts name the columns; a matrix is columns `x_0`, `x_1`, y is `target`.

    Args:
        batched: whether an element is a batch of rows. By default it is one when all
            of its tensors have a first axis of one size, or of a size not known.
        skip_nested: leave out tensors that are no single value or short vector.
    """

    name = "the tf.data.Dataset"

    def __init__(
        self,
        data: Any,
        max_bad_rows: float = 0.0,
        *,
        batched: bool | None = None,
        skip_nested: bool = False,
    ):
        if not isinstance(data, tf.data.Dataset):
            kind = type(data).__name__
            raise SourceError(f"Expected a tf.data.Dataset, got {kind}.")
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise SourceError(
                f"{self.name} has no end: leave out .repeat(), or end it with .take(n)."
            )
        specs = _named(data.element_spec)
        is_batched = _is_batched(specs) if batched is None else batched
        columns = {n: _column_type(n, s, is_batched) for n, s in specs.items()}
        flat = Flat(pa.schema(columns.items()), self.name, skip_nested=skip_nested)
        rows = _rows(data, flat.sources(flat.schema.names), is_batched)
        folder = Path(tempfile.mkdtemp(prefix="kerastrain-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = folder / "rows.arrow"
        texts, self.num_rows = self._write(rows, flat)
        self._flat = flat
        self.schema = pa.schema(
            [_with_text(field, field.name in texts) for field in flat.schema]
        )
        self._fingerprint: dict[str, Any] = {}

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        options = pa.ipc.IpcReadOptions(
            included_fields=[self.schema.get_field_index(name) for name in names]
        )
        with (
            pa.memory_map(str(self._path)) as file,
            pa.ipc.open_file(file, options=options) as reader,
        ):
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i).select(names).cast(schema)
                for start in range(0, batch.num_rows, batch_rows):
                    yield batch.slice(start, batch_rows)

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            self._fingerprint = {
                "kind": "tf.data",
                "rows": self.num_rows,
                "columns": len(self.schema),
                "sha256": digest(self.schema, self.scan()),
            }
        return self._fingerprint

    def _write(self, rows: tf.data.Dataset, flat: Flat) -> tuple[set[str], int]:
        """All rows to the file; the columns whose bytes are all text, and the count."""
        texts = {f.name for f in flat.schema if pa.types.is_binary(f.type)}
        num_rows = 0
        try:
            with (
                pa.OSFile(str(self._path), "wb") as file,
                pa.ipc.new_file(file, flat.schema) as writer,
            ):
                for element in numpy_elements(lambda: rows):
                    batch = _batch(element, flat)
                    texts = {n for n in texts if _is_text(batch.column(n))}
                    writer.write_batch(batch)
                    num_rows += batch.num_rows
        except OSError as error:
            raise SourceError(
                f"Cannot write the rows of {self.name} to {self._path.parent}: "
                f"{error.strerror or error}. Free some space, or set TMPDIR to another "
                "folder."
            ) from error
        except (tf.errors.OpError, ValueError) as error:
            raise SourceError(f"Cannot read {self.name}: {one_line(error)}.") from error
        return texts, num_rows


def _named(element: Any) -> dict[str, Any]:
    """Tensors (or their specs) of an element by the name of their column."""
    parts = element if isinstance(element, tuple) else (element,)
    if len(parts) > len(PARTS):
        raise SourceError(
            f"{TfDatasetSource.name} gives tuples of {len(parts)}. Expected X, (X, y) "
            "or (X, y, weight)."
        )
    named: dict[str, Any] = {}
    for name, part in zip(PARTS, parts, strict=False):
        found = dict(_leaves(part, "")) if isinstance(part, Mapping) else {name: part}
        twice = named.keys() & found.keys()
        if twice:
            raise SourceError(
                f"{TfDatasetSource.name} names columns twice: {listing(twice)}."
            )
        named |= found
    return named


def _leaves(element: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in element.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_batched(specs: Mapping[str, Any]) -> bool:
    """Of one tensor alone a first axis of a known size may be a vector's."""
    sizes = set()
    for spec in specs.values():
        rank = getattr(spec, "shape", tf.TensorShape(None)).rank
        sizes.add(spec.shape[0] if rank else -1)
    return sizes == {None} or (len(specs) > 1 and len(sizes) == 1 and -1 not in sizes)


def _column_type(name: str, spec: Any, is_batched: bool) -> pa.DataType:
    """Of one row; what is no tensor of a known shape is some list."""
    if not isinstance(spec, tf.TensorSpec | tf.RaggedTensorSpec | tf.SparseTensorSpec):
        raise SourceError(
            f"{TfDatasetSource.name}: '{name}' is of the type {type(spec).__name__}. "
            "Expected tensors, dicts of tensors, or a tuple (X, y)."
        )
    kind = _cell_type(name, spec.dtype)
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
        return pa.list_(kind)
    shape = list(spec.shape)[1:] if is_batched else list(spec.shape)
    if name in PARTS[1:] and shape not in ([], [1]):
        raise SourceError(
            f"{TfDatasetSource.name}: '{name}' should have one value a row, got the "
            f"shape {tuple(shape)}. For one column per class give the class: "
            "tf.argmax(y, axis=-1)."
        )
    return tensor_type(kind, shape)


def _cell_type(name: str, dtype: tf.DType) -> pa.DataType:
    try:
        is_text = dtype == tf.string
        return pa.binary() if is_text else pa.from_numpy_dtype(dtype.as_numpy_dtype)
    except (TypeError, pa.ArrowException) as error:
        raise SourceError(
            f"{TfDatasetSource.name}: '{name}' has the type {dtype.name}, which no "
            "table has. Cast it, such as to float32."
        ) from error


def _rows(
    data: tf.data.Dataset, names: Sequence[str], is_batched: bool
) -> tf.data.Dataset:
    """Dicts of the named tensors in batches of one size."""

    @tf.autograph.experimental.do_not_convert
    def pick(*parts: Any) -> dict[str, Any]:
        named = _named(parts if len(parts) > 1 else parts[0])
        return {name: named[name] for name in names}

    if is_batched:
        return data.map(pick).rebatch(SNAPSHOT_ROWS)
    if len(names) == len(_named(data.element_spec)):
        return data.batch(SNAPSHOT_ROWS).map(pick)
    return data.map(pick).batch(SNAPSHOT_ROWS)  # what is left out may not batch


def _batch(element: Mapping[str, np.ndarray], flat: Flat) -> pa.RecordBatch:
    arrays = [from_numpy(values) for values in element.values()]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(element))
    return flat.batch(batch, flat.schema.names)


def _is_text(array: pa.Array) -> bool:
    try:
        array.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _with_text(field: pa.Field, is_text: bool) -> pa.Field:
    return field.with_type(pa.string()) if is_text else field
