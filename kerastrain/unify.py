"""Files of one table: the same columns, of types that go together."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from kerastrain.errors import SourceError, listing
from kerastrain.remote import address_of

__all__ = ["check_same_columns", "file_names"]


def file_names(*paths: Path) -> list[str]:
    """What messages call files: their names where these tell them apart."""
    names = [path.name for path in paths]
    return names if len({*names}) == len(names) else [address_of(p) for p in paths]


def check_same_columns(paths: Sequence[Path], schemas: Sequence[pa.Schema]) -> None:
    """SourceError for columns missing in a file, or of another type than in the first.

    The order of the columns is free, and so is the width of numbers.
    """
    first = schemas[0]
    for path, schema in zip(paths[1:], schemas[1:], strict=True):
        if not schema.equals(first):
            names = file_names(path, paths[0])
            _check_names(names, schema.names, first.names)
            _check_types(names, schema, first)


def _check_names(
    files: Sequence[str], here: Iterable[str], there: Iterable[str]
) -> None:
    ours, theirs = dict.fromkeys(here), dict.fromkeys(there)
    lacks = [
        f"{file} lacks {listing(missing, limit=5)}"
        for file, missing in (
            (files[0], [name for name in theirs if name not in ours]),
            (files[1], [name for name in ours if name not in theirs]),
        )
        if missing
    ]
    if lacks:
        raise SourceError(
            f"{files[0]} and {files[1]} have different columns: {', and '.join(lacks)}."
        )


def _check_types(files: Sequence[str], schema: pa.Schema, first: pa.Schema) -> None:
    for field in schema:
        other = first.field(field.name).type
        if not _are_alike(field.type, other):
            raise SourceError(
                f"Column '{field.name}' is {field.type} in {files[0]}, but {other} in "
                f"{files[1]}. Write it as one type."
            )


def _are_alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Equal, or both numbers, texts or points in time, or one without values."""
    kinds = (_is_number, _is_text, _is_time)
    is_null = pa.types.is_null(one) or pa.types.is_null(other)
    return one == other or is_null or any(k(one) and k(other) for k in kinds)


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in tests)


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)
