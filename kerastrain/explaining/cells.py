"""What cells of raw columns hold: a number, a date or a text, as people read them."""

import datetime as dt
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from kerastrain.columns import COLUMNS
from kerastrain.config import FeaturesConfig
from kerastrain.schema import Column

__all__ = ["Cells", "cell_text"]

ORDERED = ("numeric", "datetime")


@dataclass(frozen=True)
class Cells:
    """The raw values of one column in some rows.

    Args:
        values: what the model takes, `(rows,)`: float32 or texts.
    """

    column: Column
    values: np.ndarray

    @property
    def is_ordered(self) -> bool:
        return self.column.type in ORDERED

    @cached_property
    def numbers(self) -> np.ndarray:
        """float64 `(rows,)` of an ordered column: numbers, or days of dates; NaN."""
        raw = tf.constant(self.values, self.column.dtype)
        kind = COLUMNS.load(self.column.type, trusted=False)()
        encoded = kind.encode(self.column, raw, None, FeaturesConfig())
        found = np.asarray(encoded.tensor, "float64")
        return found.reshape(len(self.values), -1)[:, 0]

    @cached_property
    def texts(self) -> np.ndarray:
        """`(rows,)` of texts; "" for missing."""
        return np.array([cell_text(self.column, v) for v in self.values], object)

    @property
    def is_missing(self) -> np.ndarray:
        """bool `(rows,)`."""
        if self.is_ordered:
            return np.isnan(self.numbers)
        return self.texts == ""

    def number_text(self, number: float) -> str:
        """A number of `numbers` for people."""
        if self.column.type == "datetime":
            start_days = int((self.column.stats.min or 0) // 86_400)
            start = dt.date(1970, 1, 1)
            return (start + dt.timedelta(days=number + start_days)).isoformat()
        return f"{number:.6g}"


def cell_text(column: Column, value: Any) -> str:
    """A raw value as people read it; "" for missing."""
    if column.dtype == "float32":
        return "" if math.isnan(value) else f"{float(value):.6g}"
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    return "" if text.strip() in column.missing_values else text.strip()
