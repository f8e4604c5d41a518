"""Columns that the split goes by, and how the ingest reads them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kerastrain import formats
from kerastrain.columns import COLUMNS
from kerastrain.errors import SchemaError
from kerastrain.schema import Column

__all__ = ["group_values", "split_key", "time_values", "without_key"]

_REASONS = {
    "group": "names the groups that the split keeps together",
    "part": "names the part of each row",
}


def split_key(kind: str, column: Column, where: str) -> Column:
    """The column as a key of the split.

    Args:
        kind: `group`, `time` or `part`.
        column: as the profile found it.

    Raises:
        SchemaError: a time that is neither dates nor numbers.
    """
    if kind != "time":
        update = {"type": "categorical", "dtype": "string", "format": None}
        return column.model_copy(update=update | {"role": "feature"})
    # An identifier may count up with time; it is a number all the same.
    matches = {name: COLUMNS.load(name).matches for name in ("datetime", "numeric")}
    kinds = [name for name, fits in matches.items() if fits(column.stats)]
    kind = column.type if column.type in matches else next(iter(kinds), "")
    if not kind:
        raise SchemaError(
            f"column '{column.name}' in {where} cannot order rows by time: expected "
            "dates or numbers. Name another for --time-column, or say how its dates "
            f"are written: --set columns.{column.name}.format=dmy"
        )
    described = COLUMNS.load(kind).describe(column.stats) | {"type": kind}
    if column.type == kind:
        described |= {"format": column.format, "missing_values": column.missing_values}
    return column.model_copy(update=described | {"role": "feature"})


def without_key(kind: str, column: Column, keep: Sequence[str]) -> Column:
    """The column as a feature: none where it names groups or parts; a time stays."""
    if kind == "time" or column.name in keep or column.role != "feature":
        return column
    return column.model_copy(update={"role": "ignored", "reason": _REASONS[kind]})


def time_values(
    column: Column, array: Any, *, where: str, first_row: int
) -> np.ndarray:
    """Seconds since 1970, or the number in a column of numbers; NaN for missing.

    Shapes: float64 `(rows,)`.

    Raises:
        SchemaError: a value is no number, in a column of numbers.
    """
    if column.type == "datetime":
        return formats.seconds(array, column.format or "ymd", column.missing_values)
    exact = column.model_copy(update={"role": "target", "dtype": "float32"})
    leaf = COLUMNS.load("numeric")()
    return leaf.to_input(exact, array, where=where, first_row=first_row)


def group_values(column: Column, array: Any) -> np.ndarray:
    """uint64 `(rows,)` by the text of each value; 0 where it is missing."""
    texts = formats.as_text(array, column.missing_values).fill_null("")
    encoded = texts.dictionary_encode()
    distinct = np.asarray([*encoded.dictionary.to_pylist(), ""], dtype=object)
    hashes = pd.util.hash_array(distinct)
    hashes = np.where(distinct == "", np.uint64(0), np.maximum(hashes, np.uint64(1)))
    return hashes[encoded.indices.to_numpy(zero_copy_only=False)]
