"""Numbers, also those written as text: "3.5", "$1,234", "12%"."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain import formats
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import Encoded, TrainValues
from kerastrain.errors import SchemaError
from kerastrain.schema import Column, ColumnStats

__all__ = ["Numeric"]

# A text column is numeric when this share of its values are numbers and the rest are
# few different texts: words that somebody wrote instead of leaving the cell empty.
_MIN_SHARE = 0.95
_MAX_OTHER_TEXTS = 10


class Numeric:
    """A quantity: plain or formatted numbers, or text that reads as such."""

    @staticmethod
    def matches(stats: ColumnStats) -> bool:
        """Numbers, or text that is numbers but for a few texts."""
        if stats.storage in ("integer", "float"):
            return True
        if stats.storage != "string" or not stats.num_meaningful:
            return False
        num_read = max(stats.num_as_number, stats.num_as_formatted_number)
        return (
            num_read >= _MIN_SHARE * stats.num_meaningful
            and len(stats.not_numbers) <= _MAX_OTHER_TEXTS
        )

    @staticmethod
    def describe(stats: ColumnStats) -> dict[str, Any]:
        """How the column is read: formatted numbers stay text for the model."""
        if stats.storage != "string":
            return {"dtype": "float32"}
        others = [text for text, _ in [*stats.marked, *stats.not_numbers]]
        if stats.num_as_formatted_number > stats.num_as_number:
            return {
                "dtype": "string",
                "format": "formatted",
                "missing_values": others,
            }
        return {"dtype": "float32", "missing_values": others}

    @staticmethod
    def encode(
        column: Column, raw: Any, values: TrainValues | None, config: FeaturesConfig
    ) -> Encoded:
        """One number; infinite counts as missing."""
        from kerastrain.parsing import CleanText, FiniteNumber, ParseNumber

        if column.dtype == "string":
            raw = CleanText(column.missing_values)(raw)
            parse = ParseNumber(formats.FORMATTED_NUMBER, formats.FORMATTED_NUMBER_JUNK)
            return Encoded("number", FiniteNumber()(parse(raw)), (column.name,))
        missing = formats.missing_numbers(column.missing_values)
        return Encoded("number", FiniteNumber(missing)(raw), (column.name,))

    @staticmethod
    def to_input(
        column: Column, array: pa.Array, *, where: str, first_row: int
    ) -> np.ndarray | pa.StringArray:
        """float32 `(rows,)` with NaN for missing; text with "" where dtype is string.

        A target is float64: the model never takes it, and scores go by it.

        Raises:
            SchemaError: a value is no number.
        """
        array = formats.plain(array)
        if column.format == "formatted":
            return _formatted(column, array, where, first_row)
        if not _holds_numbers(array.type):
            raise SchemaError(
                f"column '{column.name}' in {where}: expected numbers, "
                f"got {array.type}. Declare its type: --column {column.name}=..."
            )
        try:
            return formats.numbers(array, column.missing_values, _precision(column))
        except pa.ArrowInvalid:
            text = formats.as_text(array, column.missing_values)
            is_fine = formats.matches(text, formats.NUMBER)
            _refuse(column, text, is_fine, where, first_row)
            raise


def _precision(column: Column) -> str:
    return "float64" if column.role == "target" else "float32"


def _holds_numbers(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_string(kind)
    )


def _formatted(
    column: Column, array: pa.Array, where: str, first_row: int
) -> np.ndarray | pa.StringArray:
    text = formats.as_text(array, column.missing_values)
    is_fine = formats.matches(text, formats.FORMATTED_NUMBER)
    _refuse(column, text, is_fine, where, first_row)
    if column.dtype == "string":
        return pc.fill_null(text, "")
    return formats.formatted_numbers(text, _precision(column))


def _refuse(
    column: Column, text: pa.Array, is_fine: pa.Array, where: str, first_row: int
) -> None:
    formats.refuse_first(
        column, text, is_fine, expected="a number", where=where, first_row=first_row
    )
