"""Keras layers of the string front: raw texts and numbers to clean numbers.

They use TensorFlow's string ops and stand in front of everything else, so that what
follows is numbers alone. Patterns are arguments: a saved model keeps reading the way
it was trained, whatever a later version accepts.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kerastrain import formats
from kerastrain.layers import Exact, register

__all__ = ["CleanText", "FiniteNumber", "ParseBoolean", "ParseDate", "ParseNumber"]


def _trimmed(text: Any) -> Any:
    """Without the spaces that the profile and the ingest take off too."""
    spaces = f"[{formats.SPACES}]+"
    return tf.strings.regex_replace(text, f"^{spaces}|{spaces}$", "")


@register
class CleanText(Exact):
    """Text without white space at both ends, and "" for what stands for missing.

    Args:
        missing: texts that stand for a missing value. The profile and the ingest go by
            them too; without them here, a served raw cell would count as a value.

    Shapes: strings of any shape.
    """

    def __init__(self, missing: Sequence[str] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.missing = list(missing)

    def call(self, text):
        text = _trimmed(text)
        if not self.missing:
            return text
        is_missing = tf.reduce_any(text[..., None] == tf.constant(self.missing), -1)
        return tf.where(is_missing, "", text)

    def compute_output_spec(self, text):
        return keras.KerasTensor(text.shape, "string")

    def get_config(self):
        return super().get_config() | {"missing": self.missing}


@register
class ParseNumber(Exact):
    """Text of numbers such as "1,234", "12%", "$5" to float32; NaN for anything else.

    Args:
        pattern: RE2 pattern of what is accepted.
        junk: RE2 pattern of the characters that are dropped before reading.

    Shapes: strings `(batch,)` -> `(batch,)`. A percent sign divides by 100; brackets
    around a number make it negative.
    """

    def __init__(self, pattern: str, junk: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.pattern = pattern
        self.junk = junk

    def call(self, text):
        text = _trimmed(text)
        accepted = tf.strings.regex_full_match(text, self.pattern)
        digits = tf.strings.regex_replace(text, self.junk, "")
        is_percent = tf.strings.regex_full_match(text, ".*%.*")
        is_bracketed = tf.strings.regex_full_match(text, r"\(.*")
        # "nan" is a number to TensorFlow, so refused text needs no second pass.
        value = tf.strings.to_number(tf.where(accepted, digits, "nan"))
        value = tf.where(is_percent, value * 0.01, value)
        return tf.where(is_bracketed, -value, value)

    def compute_output_spec(self, text):
        return keras.KerasTensor(text.shape, "float32")

    def get_config(self):
        return super().get_config() | {"pattern": self.pattern, "junk": self.junk}


@register
class ParseBoolean(Exact):
    """Words to 1.0 and 0.0, in any case; NaN for anything else. `(batch,)` both."""

    def __init__(self, true: Sequence[str], false: Sequence[str], **kwargs: Any):
        super().__init__(**kwargs)
        self.true = list(true)
        self.false = list(false)

    def call(self, text):
        word = tf.strings.lower(_trimmed(text))[..., None]
        is_true = tf.reduce_any(word == tf.constant(self.true), -1)
        is_false = tf.reduce_any(word == tf.constant(self.false), -1)
        return tf.where(is_true, 1.0, tf.where(is_false, 0.0, math.nan))

    def compute_output_spec(self, text):
        return keras.KerasTensor(text.shape, "float32")

    def get_config(self):
        return super().get_config() | {"true": self.true, "false": self.false}


@register
class ParseDate(Exact):
    """Text of dates to numbers that a model can use; NaN where it is no date.

    Args:
        pattern: RE2 pattern of a date: three groups of digits in the order of `order`,
            then hour, minute and second, which may be absent.
        order: `ymd`, `dmy` or `mdy`.
        origin_days: days since 1970-01-01 from which elapsed time counts.

    Shapes: strings `(batch,)` -> `(batch, 10)` in the order of `PARTS`.
    """

    PARTS = (
        "elapsed_days", "year", "month", "day", "day_of_week", "hour",
        "sin_year", "cos_year", "sin_day", "cos_day",
    )  # fmt: skip

    def __init__(
        self, pattern: str, order: str = "ymd", origin_days: int = 0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.pattern = pattern
        self.order = order
        self.origin_days = int(origin_days)

    def call(self, text):
        text = _trimmed(text)
        accepted = tf.strings.regex_full_match(text, self.pattern)
        # One date that always reads stands in where the text is none.
        stand_in = "1970-01-01" if self.order == "ymd" else "01-01-1970"
        text = tf.where(accepted, text, stand_in)
        year, month, day = (
            self._number(text, 1 + self.order.index(part)) for part in "ymd"
        )
        hour, minute, second = (self._number(text, group) for group in (4, 5, 6))
        days = _days_from_civil(year, month, day)
        accepted &= _is_real_date(year, month, day, days)
        seconds = tf.cast(hour * 3600 + minute * 60 + second, tf.float32)
        parts = _date_parts(year, month, day, hour, days, seconds, self.origin_days)
        return tf.where(accepted[..., None], tf.stack(parts, -1), math.nan)

    def _number(self, text, group: int):
        digits = tf.strings.regex_replace(text, f"^{self.pattern}$", rf"0\{group}")
        return tf.strings.to_number(digits, tf.int32)  # "0" and an absent group: 0

    def compute_output_spec(self, text):
        return keras.KerasTensor((*text.shape, len(self.PARTS)), "float32")

    def get_config(self):
        return super().get_config() | {
            "pattern": self.pattern,
            "order": self.order,
            "origin_days": self.origin_days,
        }


def _days_from_civil(year, month, day):
    """Days since 1970-01-01 of the proleptic Gregorian calendar.

    Reference: H. Hinnant, "chrono-compatible low-level date algorithms" (2013).
    """
    year = tf.where(month <= 2, year - 1, year)
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def _is_real_date(year, month, day, days):
    """False for months beyond 12 and for days that roll over, such as 31 April."""
    next_year = tf.where(month == 12, year + 1, year)
    next_month = tf.where(month >= 12, 1, month + 1)
    next_first = _days_from_civil(next_year, next_month, tf.ones_like(day))
    return (month >= 1) & (month <= 12) & (day >= 1) & (days < next_first)


def _date_parts(year, month, day, hour, days, seconds, origin_days: int) -> list:
    first = _days_from_civil(year, tf.ones_like(month), tf.ones_like(day))
    year_angle = tf.cast(days - first, tf.float32) * (2 * math.pi / 365.25)
    day_angle = seconds * (2 * math.pi / 86_400)
    # Whole days are subtracted as integers: float32 counts seconds in days since
    # 1970 in steps of 170 s, in days since a nearby origin in steps of 10 s.
    elapsed = tf.cast(days - origin_days, tf.float32) + seconds / 86_400
    whole = [
        tf.cast(part, tf.float32) for part in (year, month, day, (days + 3) % 7, hour)
    ]
    return [
        elapsed,
        *whole,
        tf.sin(year_angle),
        tf.cos(year_angle),
        tf.sin(day_angle),
        tf.cos(day_angle),
    ]


@register
class FiniteNumber(Exact):
    """Infinite numbers become NaN, which stands for missing. Any shape.

    Args:
        missing: numbers that stand for a missing value, such as -999.
    """

    def __init__(self, missing: Sequence[float] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.missing = [float(number) for number in missing]

    def call(self, number):
        number = ops.where(ops.abs(number) < math.inf, number, math.nan)
        for missing in self.missing:
            number = ops.where(ops.equal(number, missing), math.nan, number)
        return number

    def get_config(self):
        return super().get_config() | {"missing": self.missing}
