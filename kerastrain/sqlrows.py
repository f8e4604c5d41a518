"""Rows of a data base as Arrow: types of a result, and batches of it."""

import datetime as dt
import decimal
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from kerastrain.events import warn

__all__ = ["arrow_schema", "batches"]

# Rows that are looked at where the result does not tell its types.
_LOOKED_AT = 200_000
_KINDS: tuple[tuple[type, pa.DataType], ...] = (
    (bool, pa.bool_()),
    (int, pa.int64()),
    (float, pa.float64()),
    (decimal.Decimal, pa.float64()),
    (dt.datetime, pa.timestamp("us")),
    (dt.date, pa.timestamp("us")),
    (bytes, pa.binary()),
)


def arrow_schema(connection: Any, query: str, *, is_dynamic: bool) -> pa.Schema:
    """The columns that a query gives, with types by the values of its first rows.

    Args:
        connection: of SQLAlchemy.
        is_dynamic: the data base allows any type in a cell, as SQLite does: all rows
            are looked at, and a column of several types is text, with a warning.
    """
    import sqlalchemy

    text = sqlalchemy.text(query.replace(":", r"\:"))
    options = {"stream_results": True, "yield_per": 10_000}
    result = connection.execution_options(**options).execute(text)
    names = list(result.keys())
    found = [set[pa.DataType]() for _ in names]
    num_rows = 0
    for rows in result.partitions(10_000):
        for kinds, values in zip(found, zip(*rows, strict=True), strict=True):
            kinds |= {_kind(kind) for kind in set(map(type, values))}
        num_rows += len(rows)
        is_known = all(kinds - {pa.null()} for kinds in found)
        if not is_dynamic and (is_known or num_rows >= _LOOKED_AT):
            break
    result.close()
    return pa.schema(
        [(name, _common(name, kinds)) for name, kinds in zip(names, found, strict=True)]
    )


def _kind(kind: type) -> pa.DataType:
    if kind is type(None):
        return pa.null()
    for python, arrow in _KINDS:
        if issubclass(kind, python):
            return arrow
    return pa.string()


def _common(name: str, kinds: set[pa.DataType]) -> pa.DataType:
    known = kinds - {pa.null()}
    if len(known) == 1:
        return next(iter(known))
    if known == {pa.int64(), pa.float64()}:
        return pa.float64()
    if known:
        shown = ", ".join(sorted(map(str, known)))
        warn(
            "column_mixed_types",
            f"Column '{name}' holds values of several types ({shown}). All are read "
            "as text.",
            column=name,
        )
    return pa.string()


def batches(
    partitions: Iterable[Sequence[Any]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Fetched rows as record batches of `schema`."""
    for rows in partitions:
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array([_value(v, field.type) for v in values], field.type)
            for field, values in zip(schema, columns, strict=True)
        ]
        yield pa.record_batch(arrays, schema=schema)


def _value(value: Any, kind: pa.DataType) -> Any:
    """A value as Arrow takes it for a type; a clock loses its zone."""
    if value is None:
        return None
    if pa.types.is_string(kind):
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return str(value) if not isinstance(value, str | uuid.UUID) else f"{value}"
    if pa.types.is_floating(kind):
        return float(value)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    return value
