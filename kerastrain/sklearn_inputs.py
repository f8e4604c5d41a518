"""Encoded columns as scikit-learn takes them, and the same as Keras layers.

Numbers are imputed, scaled robustly and drawn in at their tails; where train rows have
gaps, an indicator tells them. Codes become zeros and ones. The numbers pass through the
very same layers in both cases.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import keras
import numpy as np
import scipy.sparse
from keras import ops

from kerastrain.arrays import pieces
from kerastrain.features import Features, NumberStatistics
from kerastrain.kernels import CodeWeights, OneHot, filled, frozen_dense
from kerastrain.layers import (
    Impute,
    MissingIndicator,
    RobustScale,
    SignedLog,
    SmoothClip,
)
from kerastrain.sklearn_splines import Splines

__all__ = ["Inputs"]

# One of two categories that differ is as far as two typical numbers, which are one
# interquartile range apart: each of the two columns gives half of the square.
_HOT = 0.5**0.5
_CHUNK_ROWS = 16_384


@dataclass(frozen=True)
class Inputs:
    """Columns to one matrix: numbers, indicators of missing ones, codes.

    Args:
        statistics: of the number matrix over the train rows.
        vocabulary_sizes: codes of each code column.
        squash: how tails of numbers are drawn in: by a signed logarithm, or clipped
            smoothly at three interquartile ranges.
        max_categories: codes of a column that have a place of their own in `dense`;
            0 is all. The first are the most frequent.
        splines: of the scaled numbers, which stand beside them; None for none.
    """

    statistics: NumberStatistics
    vocabulary_sizes: tuple[int, ...]
    squash: Literal["log", "clip"] = "clip"
    max_categories: int = 0
    splines: Splines | None = None

    @cached_property
    def gaps(self) -> np.ndarray:
        """Number columns with missing values in the train rows."""
        return np.flatnonzero(self.statistics.missing > 0)

    @property
    def num_numbers(self) -> int:
        """Columns of `numbers`, indicators and splines included."""
        beside = 0 if self.splines is None else self.splines.width
        return len(self.statistics.median) + len(self.gaps) + beside

    @property
    def sizes(self) -> list[int]:
        """Places of each code column in `dense`."""
        most = self.max_categories + 2 if self.max_categories else np.inf
        return [int(min(size, most)) for size in self.vocabulary_sizes]

    def scaled(self, numbers: Any) -> Any:
        """Numbers as they are, of an array or a Keras tensor, `(batch, n)` to same."""
        median = self.statistics.median.tolist()
        x = RobustScale(median, self.statistics.factor().tolist())(
            Impute(median)(numbers)
        )
        return (SignedLog() if self.squash == "log" else SmoothClip())(x)

    def missing(self, numbers: Any) -> Any:
        """Indicators of the columns with gaps."""
        return MissingIndicator(self.gaps.tolist())(numbers)

    def number_part(self, numbers: Any) -> Any:
        """Scaled numbers, indicators and splines, `(batch, num_numbers)`."""
        scaled = self.scaled(numbers)
        parts = [
            scaled,
            *([self.missing(numbers)] if len(self.gaps) else []),
            *([] if self.splines is None else [self.splines(scaled)]),
        ]
        if len(parts) == 1:
            return scaled
        return keras.layers.Concatenate(dtype="float32")(parts)

    # --- as arrays ----------------------------------------------------------------

    def numbers(self, numbers: np.ndarray) -> np.ndarray:
        """`number_part` of an array, float32."""
        if not numbers.shape[1]:
            return numbers
        found = np.empty((len(numbers), self.num_numbers), "float32")
        for piece in pieces(len(numbers), _CHUNK_ROWS):
            found[piece] = ops.convert_to_numpy(self.number_part(numbers[piece]))
        return found

    def sparse(self, numbers: np.ndarray, codes: np.ndarray) -> Any:
        """Numbers, then each code as a one; a plain array where there are no codes."""
        left = self.numbers(numbers)
        if not codes.shape[1]:
            return left
        starts = np.cumsum([0, *self.vocabulary_sizes[:-1]])
        rows = np.arange(len(codes) + 1) * codes.shape[1]
        ones = np.ones(codes.size, "float32")
        shape = (len(codes), sum(self.vocabulary_sizes))
        hot = scipy.sparse.csr_array(
            (ones, (codes + starts).astype("int32").ravel(), rows.astype("int32")),
            shape=shape,
        )
        return scipy.sparse.hstack([scipy.sparse.csr_array(left), hot], format="csr")

    def dense(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Numbers, then zeros and ones for the most frequent codes, float32."""
        parts = [self.numbers(numbers)]
        if codes.shape[1]:
            parts.append(ops.convert_to_numpy(self._hot(codes)))
        return np.hstack(parts)

    def _hot(self, codes: Any) -> Any:
        return OneHot(self.sizes, value=_HOT)(codes)

    # --- as layers ----------------------------------------------------------------

    def dense_layers(self, features: Features) -> Any:
        """`dense` as Keras layers."""
        parts = []
        if features.numbers is not None:
            parts.append(self.number_part(features.numbers))
        if features.codes is not None:
            parts.append(self._hot(features.codes))
        joined = keras.layers.Concatenate(dtype="float32")
        return parts[0] if len(parts) == 1 else joined(parts)

    def linear_layers(
        self, features: Features, kernel: np.ndarray, bias: np.ndarray
    ) -> Any:
        """`sparse @ kernel + bias` as Keras layers; no one-hot matrix is made.

        Args:
            kernel: `(columns of sparse, units)`.
            bias: `(units,)`.
        """
        parts = []
        if features.codes is not None:
            layer = CodeWeights(self.vocabulary_sizes, kernel.shape[1])
            table = kernel[self.num_numbers :]
            if features.numbers is None:
                # Each row has one code in the first column.
                table = table.copy()
                table[: self.vocabulary_sizes[0]] += bias
            parts.append(filled(layer, features.codes, [table]))
        if features.numbers is not None:
            x = self.number_part(features.numbers)
            parts.append(frozen_dense(x, kernel[: self.num_numbers], bias))
        return parts[0] if len(parts) == 1 else keras.layers.Add(dtype="float32")(parts)
