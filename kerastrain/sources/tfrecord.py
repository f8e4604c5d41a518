"""TFRecord files of tf.Example."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from kerastrain.errors import SourceError
from kerastrain.files import files_fingerprint, files_name, find_files
from kerastrain.flat import Flat, tensor_type
from kerastrain.published import one_line
from kerastrain.source import Source
from kerastrain.tensors import numpy_elements

__all__ = ["TfRecordSource"]

READ_ROWS = 64  # records of one read; an image may be megabytes
DTYPES = {"int64_list": tf.int64, "float_list": tf.float32, "bytes_list": tf.string}
ARROW = {"int64_list": pa.int64(), "float_list": pa.float32()}


@dataclass
class _Feature:
    """What all records together hold under one name.

    Args:
        kind: field of the protocol buffer, such as `"int64_list"`.
        sizes: numbers of values, without 0, which is a missing cell.
        is_text: every value is valid UTF-8.
    """

    kind: str
    sizes: set[int] = field(default_factory=set)
    is_text: bool = True

    def add(self, values: Sequence[Any]) -> None:
        self.sizes.add(len(values))
        if self.kind == "bytes_list" and self.is_text:
            self.is_text = all(map(_is_utf8, values))

    @property
    def type(self) -> pa.DataType:
        kind = ARROW.get(self.kind, pa.string() if self.is_text else pa.binary())
        if len(self.sizes) > 1:
            return tensor_type(kind, [None])
        size = next(iter(self.sizes), 1)
        return kind if size == 1 else tensor_type(kind, [size])


class TfRecordSource(Source):
    """TFRecord files of tf.Example, compressed with gzip or not.

    All records are read once to learn their features. A feature of one value is a
    column, of up to 64 values columns `a_0`, `a_1`; bytes that are UTF-8 throughout
    are text. A record that lacks a feature has a missing cell.

    Args:
        data: a path, paths or a glob.
        skip_nested: leave out features that hold lists.
    """

    def __init__(
        self, data: Any, max_bad_rows: float = 0.0, *, skip_nested: bool = False
    ):
        self.paths = find_files(data)
        self.name = files_name(self.paths)
        self.num_rows, features = self._read_features()
        if not features:
            raise SourceError(f"The records of {self.name} hold no features.")
        self._kinds = {name: features[name].kind for name in sorted(features)}
        self._flat = Flat(
            pa.schema([(name, features[name].type) for name in self._kinds]),
            self.name,
            skip_nested=skip_nested,
        )
        self.schema = self._flat.schema
        self._fingerprint: dict[str, Any] = {}

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        size = self._flat.rows_at_once(names, batch_rows)
        read = self._flat.sources(names)
        for path in self.paths:
            for element in self._parsed(path, read, size):
                arrays = [_array(*element[name]) for name in read]
                batch = pa.RecordBatch.from_arrays(arrays, names=read)
                yield self._flat.batch(batch, names)

    def fingerprint(self) -> dict[str, Any]:
        self._fingerprint = self._fingerprint or files_fingerprint(self.paths)
        return self._fingerprint

    def _read_features(self) -> tuple[int, dict[str, _Feature]]:
        """Number of records, and what they hold."""
        num_rows = 0
        features: dict[str, _Feature] = {}
        for path in self.paths:
            # Record by record first: an error then has a number.
            for number, record in enumerate(_records(path), start=1):
                _add(features, record, f"{path}, record {number:,}")
                num_rows += 1
            if _is_gzip(path):
                _check_gzip(path)
        return num_rows, features

    def _parsed(self, path: Path, names: Sequence[str], size: int) -> Iterator[Any]:
        """Values and row splits of the named features, by name."""
        wanted = {
            name: tf.io.RaggedFeature(
                DTYPES[self._kinds[name]], row_splits_dtype=tf.int64
            )
            for name in names
        }

        @tf.autograph.experimental.do_not_convert
        def parse(records: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
            parsed = tf.io.parse_example(records, wanted)
            return {
                name: (parsed[name].values, parsed[name].row_splits) for name in names
            }

        try:
            yield from numpy_elements(lambda: _dataset(path).batch(size).map(parse))
        except tf.errors.OpError as error:
            raise SourceError(
                f"Cannot read {path}, which could be read before: {one_line(error)}."
            ) from error


def _dataset(path: Path) -> tf.data.TFRecordDataset:
    return tf.data.TFRecordDataset(str(path), "GZIP" if _is_gzip(path) else "")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _check_gzip(path: Path) -> None:
    """TensorFlow takes a gzip file that ends between two records for a whole one."""
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(
            f"{path} is cut short or damaged: {one_line(error)}."
        ) from error


def _records(path: Path) -> Iterator[bytes]:
    """Records of a file; SourceError with the number of the first that is damaged."""
    num_read = 0
    try:
        for records in numpy_elements(lambda: _dataset(path).batch(READ_ROWS)):
            yield from records
            num_read += len(records)
    except tf.errors.OpError as error:
        number = num_read + _num_whole(path, num_read) + 1
        raise SourceError(
            f"{path}, record {number:,}: the file is cut short or damaged there "
            f"({one_line(error, limit=120)})."
        ) from error


def _num_whole(path: Path, start: int) -> int:
    """Whole records after the first `start`: of a batch that fails none is given."""
    num_whole = 0
    try:
        for _ in numpy_elements(lambda: _dataset(path).skip(start)):
            num_whole += 1
    except tf.errors.OpError:
        pass
    return num_whole


def _add(features: dict[str, _Feature], record: bytes, where: str) -> None:
    try:
        example = tf.train.Example.FromString(record)
    except DecodeError as error:
        raise SourceError(f"{where}: not a tf.Example ({one_line(error)}).") from error
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = getattr(feature, kind).value if kind else ()
        if kind is None or not values:
            continue
        known = features.setdefault(name, _Feature(kind))
        if known.kind != kind:
            raise SourceError(
                f"{where}: feature '{name}' is {_told(kind)}, before it was "
                f"{_told(known.kind)}. Write all records with one type."
            )
        known.add(values)


def _told(kind: str) -> str:
    return kind.removesuffix("_list")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _array(values: np.ndarray, splits: np.ndarray) -> pa.Array:
    """One value a row, or a list of them; null where a record has none."""
    sizes = np.diff(splits)
    is_missing = pa.array(sizes == 0)
    flat = pa.array(values)
    if sizes.max(initial=0) <= 1:
        return flat.take(
            pa.array(np.where(sizes == 0, 0, splits[:-1]), mask=sizes == 0)
        )
    offsets = pa.array(splits.astype("int32"))
    return pa.ListArray.from_arrays(offsets, flat, mask=is_missing)
