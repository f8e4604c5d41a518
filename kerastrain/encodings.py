"""Categories as numbers: the smoothed mean of the target over the train rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastrain.layers import Exact, register

__all__ = [
    "CodeMeans",
    "TargetEncoding",
    "fit_target_encoding",
    "looked_up",
    "target_columns",
]

_NUM_FOLDS = 5
# Rows that the mean of all rows counts as, beside those of a category.
_SMOOTHING = 10.0
_MOST_CLASSES = 10


@register
class TargetEncoding(Exact):
    """Codes to numbers that are kept for each code, usually means of the target.

    Args:
        columns: positions of the code columns that are encoded.
        vocabulary_sizes: number of codes of each of these.
        width: numbers per code.

    Shapes: int32 `(batch, m)` -> float32 `(batch, len(columns) * width)`.
    Reference: Micci-Barreca 2001, "A preprocessing scheme for high-cardinality
    categorical attributes", equation 3. DIFFERS: the weight of the mean of all rows is
    that of a fixed number of rows.
    """

    def __init__(
        self,
        columns: Sequence[int],
        vocabulary_sizes: Sequence[int],
        width: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs | {"trainable": False})
        self.columns = [int(column) for column in columns]
        self.vocabulary_sizes = [int(size) for size in vocabulary_sizes]
        self.width = int(width)

    def build(self, input_shape):
        self.table = self.add_weight(
            shape=(sum(self.vocabulary_sizes), self.width),
            initializer="zeros",
            trainable=False,
            name="table",
        )

    @classmethod
    def of(
        cls, columns: Sequence[int], vocabulary_sizes: Sequence[int], table: np.ndarray
    ) -> "TargetEncoding":
        """With a table that `fit_target_encoding` gives."""
        layer = cls(columns, vocabulary_sizes, table.shape[1])
        layer.build(None)
        layer.built = True
        layer.table.assign(table)
        return layer

    def call(self, codes):
        ids = ops.take(codes, np.asarray(self.columns), axis=1)
        numbers = ops.take(self.table, ids + _starts(self.vocabulary_sizes), axis=0)
        return ops.reshape(numbers, (-1, len(self.columns) * self.width))

    def compute_output_spec(self, codes):
        width = len(self.columns) * self.width
        return keras.KerasTensor((codes.shape[0], width), "float32")

    def get_config(self):
        # It never learns; Keras gives the argument twice when a file names it.
        config = {k: v for k, v in super().get_config().items() if k != "trainable"}
        return config | {
            "columns": self.columns,
            "vocabulary_sizes": self.vocabulary_sizes,
            "width": self.width,
        }


def _starts(vocabulary_sizes: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *vocabulary_sizes[:-1]]).astype("int32")


def target_columns(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """What means are taken of, float64 `(rows, width)`.

    The values of a regression, the second of two classes, each of more; of many classes
    only the most frequent ones.

    Args:
        num_classes: 0 for a regression.
    """
    if num_classes <= 2:
        return targets[:, None].astype("float64")
    counts = np.bincount(targets, minlength=num_classes)
    frequent = np.sort(np.argsort(-counts, kind="stable")[:_MOST_CLASSES])
    return (targets[:, None] == frequent).astype("float64")


def fit_target_encoding(
    codes: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None,
    vocabulary_sizes: Sequence[int],
    *,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the target for each code, and those that the train rows are to see.

    A row sees means over folds that it is not in, or it would see its own target.

    Args:
        codes: int32 `(rows, columns)`.
        targets: of `target_columns`, `(rows, width)`.

    Returns:
        table: float32 `(sum of vocabulary_sizes, width)`, over all rows.
        encoded: float32 `(rows, columns * width)`, out of fold.
    """
    counts = np.ones(len(codes)) if weight is None else weight
    table = _means(codes, targets, counts, vocabulary_sizes)
    encoded = looked_up(table, codes, vocabulary_sizes)
    fold = np.random.default_rng(seed).permutation(len(codes)) % _NUM_FOLDS
    for number in range(min(_NUM_FOLDS, len(codes))):
        is_in, out = fold == number, fold != number
        if out.any():
            part = _means(codes[out], targets[out], counts[out], vocabulary_sizes)
            encoded[is_in] = looked_up(part, codes[is_in], vocabulary_sizes)
    return table, encoded


def looked_up(
    table: np.ndarray, codes: np.ndarray, vocabulary_sizes: Sequence[int]
) -> np.ndarray:
    """What the layer gives for `codes` `(rows, columns)`, in NumPy."""
    return table[codes + _starts(vocabulary_sizes)].reshape(len(codes), -1)


@dataclass(frozen=True)
class CodeMeans:
    """Means of the target for the columns of many codes.

    Args:
        columns: positions of these among the code columns.
        sizes: codes of each of these.
        table: of `fit_target_encoding`.
    """

    columns: np.ndarray
    sizes: list[int]
    table: np.ndarray

    @classmethod
    def fit(
        cls,
        codes: np.ndarray,
        targets: np.ndarray,
        weight: np.ndarray | None,
        vocabulary_sizes: Sequence[int],
        *,
        above: int,
        seed: int = 0,
    ) -> "tuple[CodeMeans, np.ndarray] | None":
        """With the means that the train rows are to see; None where no column has many.

        Args:
            codes: int32 `(rows, all code columns)`.
            targets: of `target_columns`.
            above: codes that a column has to have more of.
        """
        sizes = np.array(vocabulary_sizes, "int64")
        many = np.flatnonzero(sizes > above)
        if not len(many):
            return None
        kept = sizes[many].tolist()
        table, encoded = fit_target_encoding(
            codes[:, many], targets, weight, kept, seed=seed
        )
        return cls(many, kept, table), encoded

    @property
    def width(self) -> int:
        """Numbers that stand for a row."""
        return len(self.columns) * self.table.shape[1]

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """Means of rows that were not learnt from, float32 `(rows, width)`."""
        return looked_up(self.table, codes[:, self.columns], self.sizes)

    def layers(self, codes: Any) -> Any:
        """`numbers` of a Keras tensor."""
        return TargetEncoding.of(self.columns.tolist(), self.sizes, self.table)(codes)


def _means(
    codes: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray,
    vocabulary_sizes: Sequence[int],
) -> np.ndarray:
    size, columns = sum(vocabulary_sizes), codes.shape[1]
    ids = (codes + _starts(vocabulary_sizes)).ravel()
    # In rows: weights may be of any size.
    counts = weight / weight.mean()
    rows = np.bincount(ids, np.repeat(counts, columns), size)
    table = np.empty((size, targets.shape[1]), "float32")
    for output, values in enumerate(targets.T):
        prior = np.average(values, weights=counts)
        sums = np.bincount(ids, np.repeat(values * counts, columns), size)
        table[:, output] = (sums + _SMOOTHING * prior) / (rows + _SMOOTHING)
    return table
