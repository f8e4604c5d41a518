"""Yes or no: Arrow booleans, 0 and 1, or a pair of words."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain import formats
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import Encoded, TrainValues
from kerastrain.schema import Column, ColumnStats

__all__ = ["Boolean"]

_WORDS = sorted({w for pair in formats.BOOLEAN_WORDS.items() for w in pair})
# Every spelling of 0 and 1, such as "00", "+1" and "1.0": one group of two is filled.
_ZERO_OR_ONE = (
    r"^(?:[-+]?(0)+(?:\.0*)?(?:[eE][-+]?[0-9]+)?"
    r"|\+?0*(1)(?:\.0*)?(?:[eE][-+]?0+)?)$"
)
_IS_TRUE = pa.array([*formats.BOOLEAN_WORDS, "1"])
_IS_KNOWN = pa.array([*_WORDS, "0", "1"])


class Boolean:
    """Two values: true/false, yes/no, t/f, y/n, on/off in any case, or 1/0."""

    @staticmethod
    def matches(stats: ColumnStats) -> bool:
        """Arrow booleans; exactly the numbers 0 and 1; exactly one pair of words."""
        if stats.storage == "boolean":
            return True
        is_number = stats.num_present == stats.num_as_number
        if is_number and stats.storage in ("integer", "float", "string"):
            return stats.num_distinct == 2 and (stats.min, stats.max) == (0, 1)
        return stats.storage == "string" and _is_pair(stats)

    @staticmethod
    def describe(stats: ColumnStats) -> dict[str, Any]:
        """Words stay text, which the model reads; everything else is 0.0 and 1.0."""
        has_words = stats.storage == "string" and stats.num_as_number == 0
        return {
            "dtype": "string" if has_words else "float32",
            "missing_values": [text for text, _ in stats.marked],
        }

    @staticmethod
    def encode(
        column: Column, raw: Any, values: TrainValues | None, config: FeaturesConfig
    ) -> Encoded:
        """One number: 1 for true, 0 for false."""
        from kerastrain.parsing import CleanText, FiniteNumber, ParseBoolean

        if column.dtype == "float32":
            missing = formats.missing_numbers(column.missing_values)
            return Encoded("number", FiniteNumber(missing)(raw), (column.name,))
        true, false = zip(*formats.BOOLEAN_WORDS.items(), strict=True)
        parse = ParseBoolean([*true, "1"], [*false, "0"])
        raw = CleanText(column.missing_values)(raw)
        return Encoded("number", parse(raw), (column.name,))

    @staticmethod
    def to_input(
        column: Column, array: pa.Array, *, where: str, first_row: int
    ) -> np.ndarray | pa.StringArray:
        """float32 `(rows,)` with 0, 1, NaN; or words with "" where dtype is string.

        Raises:
            SchemaError: a value is neither true nor false.
        """
        text = formats.as_text(array, column.missing_values)
        word = pc.replace_substring_regex(pc.utf8_lower(text), _ZERO_OR_ONE, r"\1\2")
        is_known = pc.is_in(word, _IS_KNOWN)
        formats.refuse_first(
            column,
            text,
            pc.or_(is_known, pc.is_null(word)),
            expected="one of " + ", ".join(_WORDS) + ", 0, 1",
            where=where,
            first_row=first_row,
        )
        if column.dtype == "string":
            return _words(text)
        is_true = pc.if_else(pc.is_valid(word), pc.is_in(word, _IS_TRUE), None)
        return formats.numbers(is_true)


def _is_pair(stats: ColumnStats) -> bool:
    marked = {text for text, _ in stats.marked}
    words = {text.lower() for text, _ in stats.top if text not in marked}
    pairs = [{true, false} for true, false in formats.BOOLEAN_WORDS.items()]
    all_seen = stats.num_distinct == len(stats.top)
    return all_seen and words in pairs


def _words(text: pa.StringArray) -> pa.StringArray:
    """0 and 1 are told to a model of words as "false" and "true"."""
    bare = pc.replace_substring_regex(text, _ZERO_OR_ONE, r"\1\2")
    text = pc.if_else(pc.equal(bare, "1"), "true", text)
    text = pc.if_else(pc.equal(bare, "0"), "false", text)
    return pc.fill_null(text, "")
