"""Dates with or without a time of day, as Arrow timestamps or as text."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kerastrain import formats
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import Encoded, TrainValues
from kerastrain.schema import Column, ColumnStats

__all__ = ["Datetime"]

_MIN_SHARE = 0.99


class Datetime:
    """A point in time: year, month and day in one of three orders, and a time."""

    @staticmethod
    def matches(stats: ColumnStats) -> bool:
        """Timestamps and dates; text of which 99 % reads as dates in one order."""
        if stats.storage == "timestamp":
            return True
        num_read = max(stats.num_as_date.values(), default=0)
        return 0 < stats.num_meaningful * _MIN_SHARE <= num_read

    @staticmethod
    def describe(stats: ColumnStats) -> dict[str, Any]:
        """The order that reads most; where two read the same, month before day."""
        orders = stats.num_as_date
        best = max(orders, key=orders.__getitem__) if orders else "ymd"
        return {
            "dtype": "string",
            "format": best,
            "missing_values": [text for text, _ in stats.marked],
        }

    @staticmethod
    def encode(
        column: Column, text: Any, values: TrainValues | None, config: FeaturesConfig
    ) -> Encoded:
        """Elapsed days since the first date in the data, and calendar parts."""
        from kerastrain.parsing import CleanText, ParseDate  # loads TensorFlow

        order = column.format or "ymd"
        # Where the count starts changes only the rounding (see ParseDate): the models
        # take off the median of the train rows. So it may come from all rows.
        origin_days = int((column.stats.min or 0) // 86_400)
        layer = ParseDate(formats.DATES[order], order, origin_days)
        text = CleanText(column.missing_values)(text)
        names = tuple(f"{column.name}.{part}" for part in ParseDate.PARTS)
        return Encoded("number", layer(text), names)

    @staticmethod
    def to_input(
        column: Column, array: pa.Array, *, where: str, first_row: int
    ) -> pa.StringArray:
        """Text in the order of `column.format`; "" for missing. Text stays as it is:
        what is no date counts as missing in the model."""
        order = column.format or "ymd"
        text = formats.as_text(array, column.missing_values, dates=order)
        return pc.fill_null(text, "")

    @staticmethod
    def num_unread(column: Column, text: pa.StringArray) -> int:
        """How many of what `to_input` gave are neither dates nor missing."""
        is_date = formats.matches(text, formats.DATES[column.format or "ymd"])
        is_unread = pc.and_not(pc.not_equal(text, ""), is_date)
        return int(pc.sum(is_unread).as_py() or 0)
