"""One pass over a source: rows to plain arrays, in memory or in memory-mapped files.

Numbers become float32. Texts become int32 positions in the list of distinct texts of
their column, so that everything after this stage handles a text once, however many
rows hold it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kerastrain.arrays import ArrayStore, chunk_rows, pieces
from kerastrain.columns import COLUMNS
from kerastrain.errors import SchemaError, SourceError
from kerastrain.events import warn
from kerastrain.parts import Keys
from kerastrain.schema import Column, Schema, Target, check_present
from kerastrain.source import Source
from kerastrain.splitkeys import group_values, time_values
from kerastrain.texts import ParsedTexts, Texts

__all__ = ["Table", "ingest"]


# Of a cell in an Arrow batch: the text, its offset, and what is made of it.
_CELL_BYTES = 16


@dataclass
class Table:
    """Rows of a source as arrays, in the order of the source.

    Args:
        numbers: float32 `(rows,)` with NaN for missing, by column name.
        texts: columns that the model reads as text, by column name.
        target: class positions int32 (-1 for missing) or float64 (NaN for missing).
        weight: float32 `(rows,)`, or None.
        keys: what the split goes by.
        num_rows_of: rows of each source; they lie one below the other.
    """

    num_rows: int
    numbers: dict[str, np.ndarray]
    texts: dict[str, Texts | ParsedTexts]
    target: np.ndarray | None = None
    weight: np.ndarray | None = None
    keys: Keys = field(default_factory=Keys)
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
        present = np.zeros(self.num_rows, "bool")
        if self.target is not None:
            is_number = self.target.dtype.kind == "f"
            for piece in pieces(self.num_rows, 1 << 20):
                values = self.target[piece]
                present[piece] = ~np.isnan(values) if is_number else values >= 0
        return present

    def raw(self, schema: Schema, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the model takes for `rows`: float32 or texts, by input name."""
        raw = {}
        for column in schema.features:
            if column.name in self.numbers:
                raw[column.input] = np.asarray(self.numbers[column.name][rows])
            else:
                texts = self.texts[column.name]
                raw[column.input] = texts.at(rows)
        return raw

    def release(self, store: ArrayStore) -> None:
        """Let go of the columns, which are not needed once they are encoded."""
        store.take_back(*self.numbers.values())
        store.take_back(*(texts.array for texts in self.texts.values()))
        self.numbers.clear()
        self.texts.clear()

    def row_hashes(self, store: ArrayStore | None = None) -> np.ndarray:
        """uint64 `(rows,)` that depend on the content of a row alone."""
        hashes = (store or ArrayStore()).empty((self.num_rows,), "uint64")
        text_hashes = [texts.hashes() for texts in self.texts.values()]
        for piece in pieces(self.num_rows, 1 << 20):
            mixed = np.zeros(piece.stop - piece.start, "uint64")
            for column in self.numbers.values():
                _mix(mixed, _number_hashes(column[piece]))
            for hashes_of in text_hashes:
                _mix(mixed, hashes_of(piece))
            if self.target is not None:
                _mix(mixed, _number_hashes(self.target[piece]))
            hashes[piece] = mixed
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
    """Read features, target, weight and keys of the sources, one below the other.

    Raises:
        SchemaError: a column is missing, or holds what its type does not allow.
    """
    columns = [
        column
        for column in schema.columns
        if column.role in ("feature", "target", "weight")
    ]
    own = {} if len(sources) == 1 else {"part"}  # the files name the parts
    keys = {k: c for k, c in schema.keys.items() if k not in own}
    for source in sources:
        wanted = [column.name for column in columns]
        check_present(wanted, source.schema.names, where=source.name)
    counts = [_count_rows(source, columns[0].name) for source in sources]
    table = _empty_table(columns, counts, store)
    reader = _Reader(columns, table, _Keys.of(keys, table.num_rows, store))
    first_row = 0
    for source, num_rows in zip(sources, counts, strict=True):
        reader.read(source, first_row, num_rows)
        first_row += num_rows
    table.keys = reader.keys.found()
    _take_out_target(table, schema, sources[-1].name, store)
    return table


@dataclass
class _Keys:
    """The columns that the split goes by, while they are read."""

    columns: dict[str, Column]
    group: np.ndarray | None
    time: np.ndarray | None
    part: Texts | None

    @classmethod
    def of(
        cls, columns: dict[str, Column], num_rows: int, store: ArrayStore
    ) -> "_Keys":
        def empty(kind: str, dtype: str) -> np.ndarray | None:
            return store.empty((num_rows,), dtype) if kind in columns else None

        part = empty("part", "int32")
        return cls(
            columns,
            empty("group", "uint64"),
            empty("time", "float64"),
            None if part is None else Texts(part),
        )

    def put(self, batch: pa.RecordBatch, first_row: int, where: str, done: int) -> None:
        rows = slice(first_row, first_row + batch.num_rows)
        for kind, column in self.columns.items():
            place = batch.schema.get_field_index(column.name)
            if place < 0:  # rows of one's own need no key
                self._put_missing(kind, rows)
                continue
            array = batch.column(place)
            if kind == "group" and self.group is not None:
                self.group[rows] = group_values(column, array)
            elif kind == "time" and self.time is not None:
                self.time[rows] = time_values(
                    column, array, where=where, first_row=done
                )
            elif self.part is not None:
                self.part.put(first_row, _values(column, array, where, done))

    def _put_missing(self, kind: str, rows: slice) -> None:
        if kind == "group" and self.group is not None:
            self.group[rows] = 0
        elif kind == "time" and self.time is not None:
            self.time[rows] = np.nan
        elif self.part is not None:
            self.part.put(rows.start, pa.array([""] * (rows.stop - rows.start)))

    def found(self) -> Keys:
        part = self.part
        names = () if part is None else tuple(part.values)
        positions = None if part is None else part.array
        return Keys(self.group, self.time, positions, names)


@dataclass
class _Reader:
    """Reads sources into a table."""

    columns: list[Column]
    table: Table
    keys: _Keys

    def read(self, source: Source, first_row: int, num_rows: int) -> None:
        names = [column.name for column in self.columns]
        keys = [column.name for column in self.keys.columns.values()]
        present = [name for name in keys if name in source.schema.names]
        wanted = list(dict.fromkeys([*names, *present]))
        done, size = 0, chunk_rows(_CELL_BYTES * len(wanted))
        for batch in source.scan(wanted, batch_rows=size):
            if done + batch.num_rows > num_rows:
                raise SourceError(f"{source.name} grew while it was read. Train again.")
            for column in self.columns:
                array = batch.column(column.name)
                values = _values(column, array, source.name, done)
                self.table.put(column, first_row + done, values)
            self.keys.put(batch, first_row + done, source.name, done)
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
            kind = ParsedTexts if ParsedTexts.suits(column) else Texts
            array = store.empty((num_rows,), kind.dtype)
            table.texts[column.name] = kind(array)
    return table


def _values(column: Column, array: Any, where: str, first_row: int) -> Any:
    kind = COLUMNS.load(column.type, trusted=False)()
    return kind.to_input(column, array, where=where, first_row=first_row)


def _take_out_target(
    table: Table, schema: Schema, where: str, store: ArrayStore
) -> None:
    """Move target and weight out of the feature columns."""
    target = schema.target
    if target is not None and target.name in table.numbers | table.texts:
        if target.name in table.numbers:
            table.target = _number_target(target, table.numbers.pop(target.name), where)
        else:
            texts = table.texts.pop(target.name)
            assert isinstance(texts, Texts), "a target of classes is categorical"
            table.target = _class_target(target, texts, where)
    if schema.weight is not None and schema.weight.name in table.numbers:
        table.weight = _weights(table.numbers.pop(schema.weight.name), schema.weight)


def _number_target(target: Target, values: np.ndarray, where: str) -> np.ndarray:
    """In place: NaN for what is not finite."""
    if target.task != "regression":
        raise SchemaError(f"column '{target.name}' in {where}: expected texts.")
    for piece in pieces(len(values), 1 << 20):
        part = values[piece]
        values[piece] = np.where(np.isfinite(part), part, np.nan)
    return values


def _class_target(target: Target, texts: Texts, where: str) -> np.ndarray:
    """In place: positions of labels instead of texts, -1 for missing and unknown."""
    if target.task == "regression":
        raise SchemaError(f"column '{target.name}' in {where}: expected numbers.")
    by_label = {label: i for i, label in enumerate(target.labels)}
    labels = np.array([by_label.get(v, -1) for v in texts.values], "int32")
    unknown = [v for v in texts.values if v != "" and v not in by_label]
    if unknown:
        shown = ", ".join(repr(v) for v in unknown[:5])
        warn(
            "unknown_labels",
            f"{where}: rows with labels that the model does not know count as rows "
            f"without a target: {shown}.",
            labels=unknown[:100],
        )
    for piece in pieces(len(texts.array), 1 << 20):
        texts.array[piece] = labels[texts.array[piece]]
    return texts.array


def _weights(values: np.ndarray, column: Column) -> np.ndarray:
    """In place: 0 for missing."""
    num_missing, low, high = 0, np.inf, -np.inf
    for piece in pieces(len(values), 1 << 20):
        part = values[piece]
        num_missing += int(np.isnan(part).sum())
        part = np.nan_to_num(part, nan=0.0)
        low, high = min(low, part.min()), max(high, part.max())
        values[piece] = part
    if num_missing:
        warn(
            "missing_weights",
            f"{num_missing:,} of {len(values):,} rows have no weight in "
            f"'{column.name}' and count as rows of weight 0.",
            rows=num_missing,
        )
    if low < 0 or not high > 0:
        raise SchemaError(
            f"weight column '{column.name}': expected numbers of 0 and above, "
            f"not all 0; got {low:g} to {high:g}."
        )
    return values
