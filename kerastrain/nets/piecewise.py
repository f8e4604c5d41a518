"""Numbers as vectors that are linear within bins.

Reference: Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep
learning", arXiv 2203.05556, section 3.2; version B: Gorishniy et al. 2025, "TabM",
arXiv 2410.24210, appendix D.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerastrain.layers import Exact, register

__all__ = ["OneHotCodes", "PiecewiseLinear", "PiecewiseLinearEmbedding", "bin_edges"]

_NO_LIMIT = float(np.finfo("float32").max)


def bin_edges(quantiles: np.ndarray, least_width: float = 1e-5) -> list[np.ndarray]:
    """Edges of the bins of each column, of quantiles `(columns, edges)`, ascending.

    Quantiles that coincide are one edge, and so are those that are closer than
    `least_width` of the range: what lies outside of the train rows would be blown up by
    a bin that is only as wide as the rounding. A column of one value has one bin
    that starts there and is as wide as the value, or 1.

    >>> bin_edges(np.array([[0.0, 1, 1, 4], [2, 2, 2, 2]]))
    [array([0., 1., 4.]), array([2., 4.])]
    """
    return [_edges_of(column, least_width) for column in quantiles]


def _edges_of(column: np.ndarray, least_width: float) -> np.ndarray:
    # A width below the rounding of float32 itself would not be one.
    size = np.abs(column).max()
    least = max(least_width * (column[-1] - column[0]), 1e-6 * size)
    edges = [column[0]]
    for value in column[1:]:
        if value - edges[-1] > least:
            edges.append(value)
    if len(edges) == 1:
        return np.array([column[0], column[0] + max(1.0, size)])
    return np.array(edges)


@register
class PiecewiseLinear(Exact):
    """Each number as its place in every bin of its column.

    1 in the bins below it, 0 in those above, and the share of the way through its own.
    The first bin goes on below 0 and the last above 1, so that nothing outside of the
    train rows is lost. Columns with fewer bins are filled up with zeros.

    The bins are variables that no optimiser sees; make a layer with `of`.

    Args:
        num_columns: `n`.
        num_bins: of the column that has most.

    Shapes: `(batch, n)` without NaN -> `(batch, n, num_bins)`.
    Reference: section 3.2, equation 1.
    """

    widens = True  # see `pipeline.cut`

    def __init__(self, num_columns: int, num_bins: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_columns = num_columns
        self.num_bins = num_bins

    @classmethod
    def of(cls, edges: Sequence[np.ndarray], **kwargs: Any) -> "PiecewiseLinear":
        """From the edges of the bins of each column, two at least, ascending."""
        layer = cls(len(edges), max(len(one) for one in edges) - 1, **kwargs)
        layer.build((None, layer.num_columns))
        layer.set(edges)
        return layer

    def build(self, input_shape):
        shape = (self.num_columns, self.num_bins)
        for name in ("left", "slope", "low", "high"):
            weight = self.add_weight(shape, "zeros", trainable=False, name=name)
            setattr(self, name, weight)

    def set(self, edges: Sequence[np.ndarray]) -> None:
        """Take other bins, `num_bins` at most in a column."""
        left, slope, low, high = np.zeros((4, self.num_columns, self.num_bins))
        for column, one in enumerate(edges):
            last = len(one) - 1
            left[column, :last] = one[:-1]
            slope[column, :last] = 1 / np.diff(one)
            high[column, :last] = 1
            low[column, 0], high[column, last - 1] = -_NO_LIMIT, _NO_LIMIT
        self.left.assign(left)
        self.slope.assign(slope)
        self.low.assign(low)
        self.high.assign(high)

    def call(self, numbers):
        # From the left edge first: of `x * slope + offset` little is left in float32
        # where a bin is narrow.
        places = (ops.expand_dims(numbers, -1) - self.left) * self.slope
        return ops.minimum(ops.maximum(places, self.low), self.high)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((*numbers.shape, self.num_bins), "float32")

    def get_config(self):
        return super().get_config() | {
            "num_columns": self.num_columns,
            "num_bins": self.num_bins,
        }


@register
class PiecewiseLinearEmbedding(Exact):
    """A vector for each number, linear in it within each bin of its column.

    `e W + b` of the places `e` in the bins, see `PiecewiseLinear`. Version B is
    `x w + b + e W`, where `W` begins with zeros: at first the vector is linear in the
    number. Make a layer with `of`.

    Args:
        num_columns, num_bins: see `PiecewiseLinear`.
        dim: length of a vector.
        version: `A` (2022) or `B` (2025).
        activation: of `e W`: `linear` or `relu`.

    Shapes: `(batch, n)` without NaN -> `(batch, n, dim)`.
    """

    widens = True

    def __init__(
        self,
        num_columns: int,
        num_bins: int,
        dim: int = 16,
        *,
        version: Literal["A", "B"] = "B",
        activation: str = "linear",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_columns = num_columns
        self.num_bins = num_bins
        self.dim = dim
        self.version = version
        self.activation = activation
        self.places = PiecewiseLinear(num_columns, num_bins, name="places")

    @classmethod
    def of(
        cls, edges: Sequence[np.ndarray], dim: int = 16, **options: Any
    ) -> "PiecewiseLinearEmbedding":
        """From the edges of the bins of each column, two at least, ascending."""
        layer = cls(len(edges), max(len(one) for one in edges) - 1, dim, **options)
        layer.build((None, layer.num_columns))
        layer.places.set(edges)
        return layer

    def build(self, input_shape):
        n, bins, dim = self.num_columns, self.num_bins, self.dim
        self.places.build(input_shape)
        is_b = self.version == "B"
        limit = 1 / math.sqrt(dim if is_b else bins)
        uniform = keras.initializers.RandomUniform(-limit, limit)
        kernel = "zeros" if is_b else uniform
        self.kernel = self.add_weight((n, bins, dim), kernel, name="kernel")
        self.bias = self.add_weight((n, dim), uniform, name="bias")
        self.bias.decay_factor = 0.0  # a matrix, but a bias; see `engine.optimizer`
        if is_b:
            self.linear = self.add_weight((n, dim), uniform, name="linear")
            self.linear.decay_factor = 0.0  # as the authors do

    def call(self, numbers):
        by_column = ops.transpose(self.places(numbers), (1, 0, 2))
        bent = ops.transpose(ops.matmul(by_column, self.kernel), (1, 0, 2))
        activation = keras.activations.get(self.activation)
        if self.version == "A":
            return activation(bent + self.bias)
        straight = ops.expand_dims(numbers, -1) * self.linear + self.bias
        return straight + activation(bent)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((*numbers.shape, self.dim), "float32")

    def get_config(self):
        return super().get_config() | {
            "num_columns": self.num_columns,
            "num_bins": self.num_bins,
            "dim": self.dim,
            "version": self.version,
            "activation": self.activation,
        }


@register
class OneHotCodes(Exact):
    """Codes of several columns, one-hot side by side; code 0 is all zeros.

    Args:
        vocabulary_sizes: number of codes of each column, code 0 included.

    Shapes: int32 `(batch, m)` -> `(batch, sum of the sizes - m)`.
    """

    widens = True

    def __init__(self, vocabulary_sizes: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary_sizes = [int(size) for size in vocabulary_sizes]
        columns = range(len(self.vocabulary_sizes))
        sizes = [size - 1 for size in self.vocabulary_sizes]
        self._columns = np.repeat(np.array(columns, "int32"), sizes)
        codes = [np.arange(1, size + 1, dtype="int32") for size in sizes]
        self._codes = np.concatenate(codes)

    def call(self, codes):
        given = ops.take(codes, self._columns, axis=1)
        return ops.cast(ops.equal(given, self._codes), "float32")

    def compute_output_spec(self, codes):
        return keras.KerasTensor((codes.shape[0], len(self._codes)), "float32")

    def get_config(self):
        return super().get_config() | {"vocabulary_sizes": self.vocabulary_sizes}
