"""Free text: sentences, comments, titles of several words."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kerastrain import formats
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import Encoded, TrainValues
from kerastrain.events import note, warn
from kerastrain.schema import Column, ColumnStats

__all__ = ["Text"]

_MIN_WORDS = 5.0
# A text of many words with so few different values is a category all the same.
_MAX_CATEGORIES = 100


class Text:
    """Free text of several words, as TF-IDF weights drawn together to a few numbers."""

    @staticmethod
    def matches(stats: ColumnStats) -> bool:
        """Five words on average, and too many different texts for a category."""
        few = min(_MAX_CATEGORIES, stats.num_present // 10)
        is_long = stats.storage == "string" and stats.mean_words >= _MIN_WORDS
        return is_long and stats.num_distinct > few

    @staticmethod
    def describe(stats: ColumnStats) -> dict[str, Any]:
        """Text, "" for missing."""
        return {"dtype": "string"}

    @staticmethod
    def encode(
        column: Column, text: Any, values: TrainValues | None, config: FeaturesConfig
    ) -> Encoded:
        """Two lengths and `config.text_numbers` numbers; all 0 for missing."""
        from kerastrain.parsing import CleanText  # loads TensorFlow
        from kerastrain.textvectors import SAMPLE_TEXTS, fit_text_vectors

        texts = (values or TrainValues()).values
        layer = fit_text_vectors(
            texts, size=config.text_numbers, max_terms=config.max_terms
        )
        if len(texts) > SAMPLE_TEXTS:
            note(
                "text_sampled",
                f"Column '{column.name}' has {len(texts):,} different texts in the "
                f"train rows; its words are learnt from {SAMPLE_TEXTS:,} at most.",
                column=column.name,
                texts=len(texts),
            )
        if texts and not layer.idf.numpy().any():
            warn(
                "no_words",
                f"Column '{column.name}': no word stands in two different texts, so "
                f"only the length of its texts is used. Leave it out: --ignore "
                f"{column.name}",
                column=column.name,
            )
        parts = [*layer.LENGTHS, *range(1, layer.size + 1)]
        names = tuple(f"{column.name}.{part}" for part in parts)
        return Encoded("number", layer(CleanText(column.missing_values)(text)), names)

    @staticmethod
    def to_input(
        column: Column, array: pa.Array, *, where: str, first_row: int
    ) -> pa.StringArray:
        """Trimmed text; a number or a date as it is written, "" for missing."""
        return pc.fill_null(formats.as_text(array, column.missing_values), "")
