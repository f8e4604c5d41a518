"""Keras layers that more than one leaf uses.

The layers of the *string front* (`ParseNumber`, `ParseBoolean`, `ParseDate`) use
TensorFlow's string ops; all others are `keras.ops` on numbers, so that ONNX, LiteRT
and the torch backend can take them. Statistics are constructor arguments: they are
part of the saved configuration and become constants of an exported graph.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastrain import formats

__all__ = [
    "CategoryEmbedding",
    "DecideLabel",
    "FiniteNumber",
    "Impute",
    "MissingIndicator",
    "ParseBoolean",
    "ParseDate",
    "ParseNumber",
    "Probabilities",
    "RareCode",
    "RobustScale",
    "SmoothClip",
    "Strip",
    "Unstandardize",
]

register = keras.saving.register_keras_serializable(package="kerastrain")


def _floats(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype="float32")


def _trimmed(text: Any) -> Any:
    """Without the spaces that the profile and the ingest take off too."""
    spaces = f"[{formats.SPACES}]+"
    return tf.strings.regex_replace(text, f"^{spaces}|{spaces}$", "")


class _Exact(keras.layers.Layer):
    """A layer outside mixed precision: raw numbers do not fit into 16 bits."""

    def __init__(self, **kwargs: Any):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)


# --- the string front -------------------------------------------------------------


@register
class Strip(_Exact):
    """Text without white space at both ends. Strings of any shape."""

    def call(self, text):
        return _trimmed(text)

    def compute_output_spec(self, text):
        return keras.KerasTensor(text.shape, "string")


@register
class ParseNumber(_Exact):
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
class ParseBoolean(_Exact):
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
class ParseDate(_Exact):
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
    whole = [tf.cast(part, tf.float32) for part in (year, month, day, (days + 3) % 7, hour)]
    return [
        elapsed,
        *whole,
        tf.sin(year_angle),
        tf.cos(year_angle),
        tf.sin(day_angle),
        tf.cos(day_angle),
    ]


@register
class RareCode(_Exact):
    """Ids of a vocabulary to codes: 0 missing or unseen, 1 rare, 2 and up known.

    Args:
        num_known: ids 1 to `num_known` are known values; higher ones are rare.

    Shapes: integers `(batch,)` -> int32 `(batch,)`.
    """

    def __init__(self, num_known: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_known = num_known

    def call(self, ids):
        ids = ops.cast(ids, "int32")
        codes = ops.where(ids > self.num_known, 1, ids + 1)
        return ops.cast(ops.where(ids > 0, codes, 0), "int32")

    def compute_output_spec(self, ids):
        return keras.KerasTensor(ids.shape, "int32")

    def get_config(self):
        return super().get_config() | {"num_known": self.num_known}


@register
class FiniteNumber(_Exact):
    """Infinite numbers become NaN, which stands for missing. Any shape."""

    def call(self, number):
        return ops.where(ops.abs(number) < math.inf, number, math.nan)


# --- numbers ----------------------------------------------------------------------


@register
class Impute(_Exact):
    """NaN to a fixed value per column. `(batch, n)` -> `(batch, n)`.

    Args:
        fill: `n` values, usually the medians of the train rows.
    """

    def __init__(self, fill: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.fill = [float(value) for value in fill]

    def call(self, numbers):
        return ops.where(ops.isnan(numbers), _floats(self.fill), numbers)

    def get_config(self):
        return super().get_config() | {"fill": self.fill}


@register
class MissingIndicator(_Exact):
    """1.0 where a number is missing. `(batch, n)` -> `(batch, len(columns))`.

    Args:
        columns: positions of the columns that had missing values in the train rows.
    """

    def __init__(self, columns: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.columns = [int(column) for column in columns]

    def call(self, numbers):
        missing = ops.isnan(ops.take(numbers, np.asarray(self.columns), axis=-1))
        return ops.cast(missing, "float32")

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((*numbers.shape[:-1], len(self.columns)), "float32")

    def get_config(self):
        return super().get_config() | {"columns": self.columns}


@register
class RobustScale(_Exact):
    """`(x - center) * factor` per column. `(batch, n)` -> `(batch, n)`.

    Args:
        center: `n` values, usually medians.
        factor: `n` values, usually one over the spread; 0 for a constant column.
    """

    def __init__(self, center: Sequence[float], factor: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.center = [float(value) for value in center]
        self.factor = [float(value) for value in factor]

    def call(self, numbers):
        return (numbers - _floats(self.center)) * _floats(self.factor)

    def get_config(self):
        return super().get_config() | {"center": self.center, "factor": self.factor}


@register
class SmoothClip(_Exact):
    """`x / sqrt(1 + (x / limit)^2)`: linear near 0, never beyond `limit`. Any shape.

    Reference: Holzmüller et al. 2024 (RealMLP), section 3.1.
    """

    def __init__(self, limit: float = 3.0, **kwargs: Any):
        super().__init__(**kwargs)
        if limit <= 0:
            raise ValueError(f"the limit of SmoothClip must be above 0, got {limit}.")
        self.limit = float(limit)

    def call(self, x):
        # Beyond 1e18 the square overflows float32 and the result would be 0.
        share = ops.clip(x / self.limit, -1e18, 1e18)
        return self.limit * (share / ops.sqrt(1 + ops.square(share)))

    def get_config(self):
        return super().get_config() | {"limit": self.limit}


# --- categories -------------------------------------------------------------------


@register
class CategoryEmbedding(keras.layers.Layer):
    """A learnt vector for each code of each column, side by side.

    One table holds the codes of all columns, so one gather and one variable serve
    them all. Code 0 (missing or unseen) starts as the zero vector: where the train
    rows never show it, it stays neutral.

    Args:
        vocabulary_sizes: number of codes of each column, code 0 included.
        dim: length of a vector.
        scale: standard deviation of the initial values.

    Shapes: int32 `(batch, columns)` -> `(batch, columns * dim)`.
    """

    def __init__(
        self,
        vocabulary_sizes: Sequence[int],
        dim: int = 8,
        scale: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocabulary_sizes = [int(size) for size in vocabulary_sizes]
        self.dim = dim
        self.scale = scale
        self._offsets = np.cumsum([0, *self.vocabulary_sizes[:-1]]).astype("int32")

    def build(self, input_shape):
        self.table = self.add_weight(
            shape=(sum(self.vocabulary_sizes), self.dim),
            initializer=self._initial,
            name="table",
        )

    def _initial(self, shape, dtype=None):
        normal = keras.random.normal(shape, stddev=self.scale, dtype=dtype)
        is_known = np.ones((shape[0], 1), dtype="float32")
        is_known[self._offsets] = 0
        return normal * ops.cast(is_known, normal.dtype)

    def call(self, codes):
        vectors = ops.take(self.table, codes + self._offsets, axis=0)
        width = len(self.vocabulary_sizes) * self.dim
        return ops.reshape(vectors, (-1, width))

    def compute_output_spec(self, codes):
        width = len(self.vocabulary_sizes) * self.dim
        return keras.KerasTensor((codes.shape[0], width), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "vocabulary_sizes": self.vocabulary_sizes,
            "dim": self.dim,
            "scale": self.scale,
        }


# --- the decision -----------------------------------------------------------------


@register
class Probabilities(_Exact):
    """Logits to probabilities of all classes.

    Shapes: `(batch, 1)` -> `(batch, 2)` for two classes, where the second is the
    positive one; `(batch, classes)` -> `(batch, classes)` otherwise.
    """

    def call(self, logits):
        if logits.shape[-1] == 1:
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return ops.softmax(logits, axis=-1)

    def compute_output_spec(self, logits):
        num_classes = max(2, logits.shape[-1])
        return keras.KerasTensor((logits.shape[0], num_classes), "float32")


@register
class DecideLabel(_Exact):
    """The label of the most probable class. `(batch, classes)` -> strings `(batch,)`."""

    def __init__(self, labels: Sequence[str], **kwargs: Any):
        super().__init__(**kwargs)
        self.labels = list(labels)

    def call(self, probabilities):
        best = tf.argmax(probabilities, axis=-1)
        return tf.gather(tf.constant(self.labels), best)

    def compute_output_spec(self, probabilities):
        return keras.KerasTensor((probabilities.shape[0],), "string")

    def get_config(self):
        return super().get_config() | {"labels": self.labels}


@register
class Unstandardize(_Exact):
    """`x * std + mean`: `(batch, 1)` -> `(batch,)` in the unit of the target."""

    def __init__(self, mean: float, std: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.mean = float(mean)
        self.std = float(std)

    def call(self, x):
        return ops.squeeze(x, axis=-1) * self.std + self.mean

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0],), "float32")

    def get_config(self):
        return super().get_config() | {"mean": self.mean, "std": self.std}
