"""One of a set of values without order: words, codes, numbers that are names."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain import formats
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import Encoded, TrainValues
from kerastrain.schema import Column, ColumnStats

__all__ = ["Categorical"]

# Rare values are stored too, so that they differ from unseen ones; beyond this many
# they count as unseen, which keeps the saved model small.
_MAX_STORED = 200_000
_MAX_LENGTH = 1_000  # characters; 200,000 values of it are 0.8 GB while Keras sets up
# Keras refuses an empty vocabulary, and takes "[UNK]" in one for its own word unless
# another is named; no cell of a table holds these texts.
_NOTHING = "\x00nothing"  # NumPy, which Keras uses, drops a NUL at the end
_UNSEEN = "\x00unseen"


class Categorical:
    """A value out of many; anything that can be written as text."""

    @staticmethod
    def matches(stats: ColumnStats) -> bool:
        """Any text. Types that know more about a text stand before this one."""
        return stats.storage == "string"

    @staticmethod
    def describe(stats: ColumnStats) -> dict[str, Any]:
        """Text, "" for missing."""
        return {"dtype": "string"}

    @staticmethod
    def encode(
        column: Column, text: Any, values: TrainValues | None, config: FeaturesConfig
    ) -> Encoded:
        """One code: 0 missing or unseen, 1 rare, 2 and up by falling frequency."""
        import keras  # loads TensorFlow

        from kerastrain.layers import RareCode
        from kerastrain.parsing import CleanText

        values = _storable(values or TrainValues())
        min_count = config.resolved(int(values.counts.sum())).min_count
        num_known = int((values.counts >= min_count).sum())
        num_known = min(num_known, config.max_vocabulary)
        stored = values.values[:_MAX_STORED] or [_NOTHING]
        lookup = keras.layers.StringLookup(
            vocabulary=stored, num_oov_indices=1, oov_token=_UNSEEN
        )
        codes = RareCode(num_known)(lookup(CleanText(column.missing_values)(text)))
        labels = {0: "missing or unseen", 1: "rare"}
        labels |= {i + 2: value for i, value in enumerate(values.values[:num_known])}
        return Encoded("code", codes, (column.name,), num_known + 2, labels)

    @staticmethod
    def to_input(
        column: Column, array: pa.Array, *, where: str, first_row: int
    ) -> pa.StringArray:
        """Trimmed text; 3 and 3.0 are "3", true is "true", a missing value is ""."""
        return pc.fill_null(formats.as_text(array, column.missing_values), "")


def _storable(values: TrainValues) -> TrainValues:
    """Without texts that end in NUL or are very long: these count as unseen.

    Keras holds a vocabulary as a NumPy array of strings, which drops a NUL at the end
    and takes as much memory for each text as for the longest.
    """
    fits = [not v.endswith("\x00") and len(v) <= _MAX_LENGTH for v in values.values]
    kept = [value for value, fit in zip(values.values, fits, strict=True) if fit]
    return TrainValues(kept, values.counts[np.asarray(fits, "bool")])
