"""Columns of texts, row by row: as positions among the distinct ones, or as bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain.arrays import pieces
from kerastrain.encoded import TrainValues
from kerastrain.schema import Column, Schema

__all__ = ["ParsedTexts", "Texts", "text_bytes"]

Hashes = Callable[[slice], np.ndarray]

# A distinct text takes about 200 bytes beside its letters: the string, its places in a
# dictionary and a list, its hash.
TEXT_BYTES = 200
_MAX_DISTINCT = 200_000
_WIDTH = 64
_UNREADABLE = "?"


def text_bytes(schema: Schema) -> tuple[int, str]:
    """About what the different texts of all columns take in memory, and of which one
    they take the most; texts that are only parsed lie on disk."""
    kept = [
        column
        for column in schema.columns
        if column.role in ("feature", "target") and column.dtype == "string"
    ]
    sizes = {
        column.name: int(
            column.stats.num_distinct * (TEXT_BYTES + column.stats.mean_chars)
        )
        for column in kept
        if not ParsedTexts.suits(column)
    }
    return sum(sizes.values()), max(sizes, key=sizes.__getitem__, default="")


@dataclass
class Texts:
    """A column of texts: `array` int32 `(rows,)` of positions in distinct `values`."""

    dtype: ClassVar[str] = "int32"

    array: np.ndarray
    values: list[str] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict, repr=False)

    def put(self, first_row: int, texts: pa.Array) -> None:
        """Fill rows from `first_row` on; null counts as the empty text."""
        encoded = texts.fill_null("").dictionary_encode()
        known = np.fromiter(
            (self._position(text) for text in encoded.dictionary.to_pylist()), "int32"
        )
        rows = encoded.indices.to_numpy(zero_copy_only=False)
        self.array[first_row : first_row + len(rows)] = known[rows]

    def _position(self, text: str) -> int:
        position = self._index.setdefault(text, len(self.values))
        if position == len(self.values):
            self.values.append(text)
        return position

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Texts of `rows`, object `(rows,)`."""
        found = [self.values[i] for i in self.array[rows].tolist()]
        return np.asarray(found, dtype=object)

    def hashes(self) -> Hashes:
        """A function of a slice of rows: uint64 hashes of their texts."""
        distinct = pd.util.hash_array(np.asarray(self.values, dtype=object))
        return lambda rows: distinct[self.array[rows]]

    def train_values(self, rows: np.ndarray) -> TrainValues:
        """Distinct texts of `rows` but the empty one, most frequent first, then A-Z."""
        counts = np.zeros(len(self.values), "int64")
        for piece in pieces(len(rows), 1 << 20):
            positions = self.array[rows[piece]]
            counts += np.bincount(positions, minlength=len(counts))
        seen = [i for i in np.flatnonzero(counts) if self.values[i] != ""]
        seen.sort(key=lambda i: (-counts[i], self.values[i]))
        return TrainValues([self.values[i] for i in seen], counts[seen])


@dataclass
class ParsedTexts:
    """A column of mostly different texts that the model only parses, as dates.

    `array` holds the text of each row as bytes: 30 million points in time are 30
    million distinct texts, which take 1.9 GB of disk so and 7 GB of memory otherwise.
    """

    dtype: ClassVar[str] = f"S{_WIDTH}"

    array: np.ndarray

    @staticmethod
    def suits(column: Column) -> bool:
        """Whether a column is parsed, and holds so many texts that it matters."""
        is_parsed = column.type in ("datetime", "numeric")
        return is_parsed and column.stats.num_distinct > _MAX_DISTINCT

    def put(self, first_row: int, texts: pa.Array) -> None:
        """Fill rows from `first_row` on.

        What does not fit is no date and no number, and stays so: a text cut at 64
        bytes, or a NUL at the end that NumPy drops, could become one.
        """
        texts = texts.fill_null("").cast(pa.binary())
        has_nul = pc.match_substring(texts.cast(pa.string()), "\x00")
        fits = pc.and_not(pc.less_equal(pc.binary_length(texts), _WIDTH), has_nul)
        kept = pc.if_else(fits, texts, _UNREADABLE.encode())
        rows = np.array(kept.to_pylist(), dtype=self.dtype)
        self.array[first_row : first_row + len(rows)] = rows

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Texts of `rows`, object `(rows,)`."""
        found = [text.decode("utf-8") for text in self.array[rows].tolist()]
        return np.asarray(found, dtype=object)

    def hashes(self) -> Hashes:
        """A function of a slice of rows: uint64 hashes of their texts."""

        def of(rows: slice) -> np.ndarray:
            words = self.array[rows].view("uint64").reshape(-1, _WIDTH // 8)
            hashed = np.zeros(len(words), "uint64")
            for word in words.T:
                hashed = (hashed ^ word) * np.uint64(0x9E3779B97F4A7C15)
                hashed ^= hashed >> np.uint64(29)
            return hashed

        return of

    def train_values(self, rows: np.ndarray) -> TrainValues:
        """None: parsing learns nothing."""
        return TrainValues()
