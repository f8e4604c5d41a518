"""One pass over a source: rows to plain arrays, in memory or in memory-mapped files.

Numbers become float32. Texts become int32 positions in the list of distinct texts of
their column, so that everything after this stage handles a text once, however many
rows hold it.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kerastrain.columns import COLUMNS
from kerastrain.encoded import TrainValues
from kerastrain.errors import DataError, SchemaError, SourceError
from kerastrain.events import warn
from kerastrain.schema import Column, Schema, Target, check_present
from kerastrain.source import Source

__all__ = ["ArrayStore", "Table", "Texts", "ingest"]


class ArrayStore:
    """Gives out arrays: in memory up to a budget, then as memory-mapped files.

    Args:
        folder: where the files lie; made when the first is needed.
        budget_bytes: of all arrays given out; None for no limit.
    """

    def __init__(self, folder: Path | None = None, budget_bytes: int | None = None):
        self.folder = folder
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.num_files = 0

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array to be filled; C order."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.used_bytes += size
        fits = self.budget_bytes is None or self.used_bytes <= self.budget_bytes
        if fits or self.folder is None:
            return np.empty(shape, dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.num_files += 1
        path = self.folder / f"{self.num_files:04d}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _reserve(path, size)
        return array

    def remove_files(self) -> None:
        """Delete the files. Arrays over them stay readable while they are held."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.glob("*.npy"):
            with contextlib.suppress(PermissionError):  # Windows: an array is held
                path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def _reserve(path: Path, size: int) -> None:
    """Take the disk space now: a full disk would kill the process (SIGBUS) later."""
    if not size or not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise DataError(
                f"No room for {size / 1e9:.2g} GB of encoded rows in {path.parent}: "
                f"{error.strerror}. Free some space, name another --out, or allow more "
                "memory (--set runtime.memory=8GB)."
            ) from None


@dataclass
class Texts:
    """A column of texts: `positions` int32 `(rows,)` into the distinct `values`."""

    positions: np.ndarray
    values: list[str] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict, repr=False)

    def put(self, first_row: int, texts: pa.Array) -> None:
        """Fill rows from `first_row` on; null counts as the empty text."""
        encoded = texts.fill_null("").dictionary_encode()
        known = np.fromiter(
            (self._position(text) for text in encoded.dictionary.to_pylist()), "int32"
        )
        rows = encoded.indices.to_numpy(zero_copy_only=False)
        self.positions[first_row : first_row + len(rows)] = known[rows]

    def _position(self, text: str) -> int:
        position = self._index.setdefault(text, len(self.values))
        if position == len(self.values):
            self.values.append(text)
        return position

    def train_values(self, rows: np.ndarray) -> TrainValues:
        """Distinct texts of `rows` but the empty one, most frequent first, then A-Z."""
        counts = np.bincount(self.positions[rows], minlength=len(self.values))
        seen = [i for i in np.flatnonzero(counts) if self.values[i] != ""]
        seen.sort(key=lambda i: (-counts[i], self.values[i]))
        return TrainValues([self.values[i] for i in seen], counts[seen])


@dataclass
class Table:
    """Rows of a source as arrays, in the order of the source.

    Args:
        numbers: float32 `(rows,)` with NaN for missing, by column name.
        texts: columns that the model reads as text, by column name.
        target: class positions int32 (-1 for missing) or float64 (NaN for missing).
        weight: float32 `(rows,)`, or None.
        num_rows_of: rows of each source; they lie one below the other.
    """

    num_rows: int
    numbers: dict[str, np.ndarray]
    texts: dict[str, Texts]
    target: np.ndarray | None = None
    weight: np.ndarray | None = None
    num_rows_of: list[int] = field(default_factory=list)

    def put(self, column: Column, first_row: int, values: Any) -> None:
        """Fill rows of a column from `first_row` on."""
        if column.dtype == "float32":
            rows = slice(first_row, first_row + len(values))
            self.numbers[column.name][rows] = values
        else:
            self.texts[column.name].put(first_row, values)

    @property
    def has_target(self) -> np.ndarray:
        """bool `(rows,)`."""
        if self.target is None:
            return np.zeros(self.num_rows, "bool")
        if self.target.dtype.kind == "f":
            return ~np.isnan(self.target)
        return self.target >= 0

    def raw(self, schema: Schema, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the model takes for `rows`: float32 or texts, by input name."""
        raw = {}
        for column in schema.features:
            if column.name in self.numbers:
                raw[column.input] = np.asarray(self.numbers[column.name][rows])
            else:
                texts = self.texts[column.name]
                values = np.asarray([*texts.values, ""], dtype=object)
                raw[column.input] = values[texts.positions[rows]]
        return raw

    def release(self) -> None:
        """Let go of the columns, which are not needed once they are encoded."""
        self.numbers.clear()
        self.texts.clear()

    def row_hashes(self) -> np.ndarray:
        """uint64 `(rows,)` that depend on the content of a row alone."""
        hashes = np.zeros(self.num_rows, "uint64")
        for column in self.numbers.values():
            _mix(hashes, _number_hashes(column))
        for texts in self.texts.values():
            values = pd.util.hash_array(np.asarray(texts.values, dtype=object))
            _mix(hashes, values[texts.positions])
        if self.target is not None:
            _mix(hashes, _number_hashes(self.target))
        return hashes


def _number_hashes(values: np.ndarray) -> np.ndarray:
    """uint64 `(rows,)`; -0.0 counts as 0.0, and NaN of any bits as one."""
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values + 0)
    return pd.util.hash_array(values)


def _mix(hashes: np.ndarray, values: np.ndarray) -> None:
    """Fold `values` into `hashes` in place, so that the order of columns counts."""
    hashes *= np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    hashes += values


def ingest(sources: Sequence[Source], schema: Schema, store: ArrayStore) -> Table:
    """Read features, target and weight of the sources, one below the other.

    Raises:
        SchemaError: a column is missing, or holds what its type does not allow.
    """
    columns = [
        column
        for column in schema.columns
        if column.role in ("feature", "target", "weight")
    ]
    for source in sources:
        wanted = [column.name for column in columns]
        check_present(wanted, source.schema.names, where=source.name)
    counts = [_count_rows(source, columns[0].name) for source in sources]
    table = _empty_table(columns, counts, store)
    first_row = 0
    for source, num_rows in zip(sources, counts, strict=True):
        _read(source, columns, table, first_row, num_rows)
        first_row += num_rows
    _take_out_target(table, schema, sources[-1].name)
    return table


def _read(
    source: Source, columns: list[Column], table: Table, first_row: int, num_rows: int
) -> None:
    done = 0
    for batch in source.scan([column.name for column in columns]):
        if done + batch.num_rows > num_rows:
            raise SourceError(f"{source.name} grew while it was read. Train again.")
        for column in columns:
            values = _values(column, batch.column(column.name), source.name, done)
            table.put(column, first_row + done, values)
        done += batch.num_rows
    if done != num_rows:
        raise SourceError(f"{source.name} shrank while it was read. Train again.")


def _count_rows(source: Source, column: str) -> int:
    if source.num_rows is not None:
        return source.num_rows
    return sum(batch.num_rows for batch in source.scan([column]))


def _empty_table(
    columns: Iterable[Column], counts: list[int], store: ArrayStore
) -> Table:
    num_rows = sum(counts)
    table = Table(num_rows, {}, {}, num_rows_of=counts)
    for column in columns:
        if column.dtype == "float32":
            dtype = "float64" if column.role == "target" else "float32"
            table.numbers[column.name] = store.empty((num_rows,), dtype)
        else:
            table.texts[column.name] = Texts(store.empty((num_rows,), "int32"))
    return table


def _values(column: Column, array: Any, where: str, first_row: int) -> Any:
    kind = COLUMNS.load(column.type, trusted=False)()
    return kind.to_input(column, array, where=where, first_row=first_row)


def _take_out_target(table: Table, schema: Schema, where: str) -> None:
    """Move target and weight out of the feature columns."""
    target = schema.target
    if target is not None and target.name in table.numbers | table.texts:
        column: np.ndarray | Texts
        if target.name in table.numbers:
            column = table.numbers.pop(target.name)
        else:
            column = table.texts.pop(target.name)
        table.target = _target_values(target, column, where)
    if schema.weight is not None and schema.weight.name in table.numbers:
        table.weight = _weights(table.numbers.pop(schema.weight.name), schema.weight)


def _target_values(
    target: Target, column: np.ndarray | Texts, where: str
) -> np.ndarray:
    if target.task == "regression":
        if isinstance(column, Texts):
            raise SchemaError(f"column '{target.name}' in {where}: expected numbers.")
        values = np.asarray(column, "float64")
        return np.where(np.isfinite(values), values, np.nan)
    if not isinstance(column, Texts):
        raise SchemaError(f"column '{target.name}' in {where}: expected texts.")
    by_label = {label: i for i, label in enumerate(target.labels)}
    positions = np.array([by_label.get(v, -1) for v in column.values], "int32")
    unknown = [v for v in column.values if v != "" and v not in by_label]
    if unknown:
        shown = ", ".join(repr(v) for v in unknown[:5])
        warn(
            "unknown_labels",
            f"{where}: rows with labels that the model does not know count as rows "
            f"without a target: {shown}.",
            labels=unknown[:100],
        )
    return positions[column.positions]


def _weights(values: np.ndarray, column: Column) -> np.ndarray:
    weights = np.nan_to_num(np.asarray(values, "float32"), nan=0.0)
    num_missing = int(np.isnan(values).sum())
    if num_missing:
        warn(
            "missing_weights",
            f"{num_missing:,} of {len(values):,} rows have no weight in "
            f"'{column.name}' and count as rows of weight 0.",
            rows=num_missing,
        )
    if (weights < 0).any() or not weights.any():
        raise SchemaError(
            f"weight column '{column.name}': expected numbers of 0 and above, "
            f"not all 0; got {weights.min():g} to {weights.max():g}."
        )
    return weights
