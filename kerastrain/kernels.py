"""Keras layers of estimators that are no trees: kernels, neighbours, densities, codes.

Their numbers are weights that nothing trains; `filled` puts them in. All is
`keras.ops`, in float32 whatever the precision of the run.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerastrain.layers import Exact, register

__all__ = [
    "LEAST_LOGIT",
    "CodeWeights",
    "GaussianLikelihood",
    "Nearest",
    "OneHot",
    "PlaceClasses",
    "RbfKernel",
    "filled",
    "frozen_dense",
    "neighbor_weights",
]

# A class that no train row has: one in 10^13.
LEAST_LOGIT = -30.0
# Rows whose distances to all stored rows are in memory at once: 20 MB at 20,000 rows.
_CHUNK_ROWS = 256
# Distances of two neighbours that differ by less are equal: float32 knows no better.
_TIE = 1e-5
# Squared distance that a neighbour has at least, in squared units of the columns.
_LEAST_SQUARE = 1e-2


def filled(layer: keras.layers.Layer, inputs: Any, weights: Sequence[Any]) -> Any:
    """What `layer` makes of `inputs`, with these weights in it."""
    outputs = layer(inputs)
    layer.set_weights([np.asarray(one, "float32") for one in weights])
    return outputs


def frozen_dense(
    inputs: Any, kernel: np.ndarray, bias: np.ndarray, activation: str | None = None
) -> Any:
    """`inputs @ kernel + bias`, which is not trained. `(batch, n)` -> `(batch, m)`."""
    layer = keras.layers.Dense(
        kernel.shape[1], activation=activation, dtype="float32", trainable=False
    )
    return filled(layer, inputs, [kernel, bias])


def _in_chunks(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of the rows of `x` `(batch, n)`, some at a time."""
    num_rows = ops.convert_to_tensor(ops.shape(x)[0], "int32")
    size = ops.clip(num_rows, 1, _CHUNK_ROWS)
    # One at least: a loop of no turns has no result.
    num_chunks = ops.maximum((num_rows + size - 1) // size, 1)
    x = ops.pad(x, [[0, num_chunks * size - num_rows], [0, 0]])
    chunks = ops.reshape(x, (num_chunks, size, x.shape[-1]))
    outputs = ops.map(function, chunks)
    outputs = ops.reshape(outputs, (num_chunks * size, outputs.shape[-1]))
    return outputs[:num_rows]


def _squared_distances(x: Any, stored: Any) -> Any:
    """`(batch, n)` and `(stored, n)` to `(batch, stored)`, never negative."""
    lengths = ops.sum(ops.square(stored), axis=-1)
    own = ops.sum(ops.square(x), axis=-1, keepdims=True)
    both = ops.matmul(x, ops.transpose(stored))
    return ops.maximum(own + lengths - 2 * both, 0)


class _Stored(Exact):
    """A layer that is made of stored numbers, which nothing trains."""

    def _store(self, **shapes: tuple[int, ...]) -> None:
        for name, shape in shapes.items():
            weight = self.add_weight(
                shape=shape, initializer="zeros", trainable=False, name=name
            )
            setattr(self, name, weight)


# --- codes ------------------------------------------------------------------------


@register
class OneHot(Exact):
    """Codes to zeros and ones side by side. `(batch, m)` -> `(batch, sum of sizes)`.

    Args:
        sizes: codes of each column that have a place; a code beyond counts as code 1,
            which is that of rare values.
        value: that stands for one.
    """

    def __init__(self, sizes: Sequence[int], value: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.sizes = [int(size) for size in sizes]
        self.value = float(value)
        places = np.repeat(np.arange(len(self.sizes)), self.sizes)
        codes = [np.arange(size) for size in self.sizes]
        self._column = places.astype("int32")
        self._code = np.concatenate(codes or [places]).astype("int32")

    def call(self, codes):
        limit = np.asarray(self.sizes, "int32")
        rare = np.minimum(limit - 1, 1).astype("int32")
        codes = ops.where(codes < limit, codes, rare)
        is_hot = ops.equal(ops.take(codes, self._column, axis=1), self._code)
        return ops.cast(is_hot, "float32") * self.value

    def compute_output_spec(self, codes):
        return keras.KerasTensor((codes.shape[0], sum(self.sizes)), "float32")

    def get_config(self):
        return super().get_config() | {"sizes": self.sizes, "value": self.value}


@register
class CodeWeights(_Stored):
    """Sum of the weights of a row's codes: a product with their one-hot matrix.

    Args:
        sizes: number of codes of each column.
        units: of the result.

    Shapes: int32 `(batch, m)` -> `(batch, units)`; the weight `(sum of sizes, units)`.
    """

    def __init__(self, sizes: Sequence[int], units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.sizes = [int(size) for size in sizes]
        self.units = int(units)

    def build(self, input_shape):
        self._store(table=(sum(self.sizes), self.units))

    def call(self, codes):
        total, start = 0.0, 0
        # One column at a time: all at once would take m times the memory.
        for column, size in enumerate(self.sizes):
            total += ops.take(self.table, codes[:, column] + start, axis=0)
            start += size
        return total

    def compute_output_spec(self, codes):
        return keras.KerasTensor((codes.shape[0], self.units), "float32")

    def get_config(self):
        return super().get_config() | {"sizes": self.sizes, "units": self.units}


# --- kernels and neighbours -------------------------------------------------------


@register
class RbfKernel(_Stored):
    """`sum_i coefficient_i * exp(-gamma * |x - row_i|^2) + bias`, a kernel machine.

    Args:
        num_rows: support vectors.
        units: of the result.
        gamma: of the kernel.

    Shapes: `(batch, n)` -> `(batch, units)`; weights: rows `(num_rows, n)`,
    coefficients `(num_rows, units)`, bias `(units,)`.
    """

    def __init__(self, num_rows: int, units: int, gamma: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_rows, self.units = int(num_rows), int(units)
        self.gamma = float(gamma)

    def build(self, input_shape):
        self._store(
            rows=(self.num_rows, input_shape[-1]),
            coefficients=(self.num_rows, self.units),
            bias=(self.units,),
        )

    def call(self, x):
        def machine(x):
            kernel = ops.exp(-self.gamma * _squared_distances(x, self.rows))
            return ops.matmul(kernel, self.coefficients) + self.bias

        return _in_chunks(machine, x)

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], self.units), "float32")

    def get_config(self):
        return super().get_config() | {
            "num_rows": self.num_rows,
            "units": self.units,
            "gamma": self.gamma,
        }


def neighbor_weights(
    squares: Any, kth: Any, length: Any, by_distance: bool, xp: Any = ops
) -> Any:
    """What each stored row counts for a row: 0 beyond its k-th neighbour.

    All rows as near as the k-th count. Of several at the same distance none is better,
    and which of them a library happens to take no other implementation could repeat.

    Args:
        squares: squared distances `(batch, stored)`.
        kth: the k-th smallest of them, `(batch, 1)`.
        length: squared length of each row, `(batch, 1)`; rounding grows with it.
        by_distance: one over the distance counts, relative to the k-th one.
        xp: `keras.ops` or `numpy`.
    """
    is_near = squares <= kth + _TIE * (kth + length) + 1e-6
    if not by_distance:
        return xp.where(is_near, 1.0, 0.0)
    nearness = xp.sqrt((kth + _LEAST_SQUARE) / (squares + _LEAST_SQUARE))
    return xp.where(is_near, nearness, 0.0)


@register
class Nearest(_Stored):
    """Weighted mean of the values of the nearest stored rows; see `neighbor_weights`.

    Args:
        num_rows: that are stored.
        units: values of a row.
        num_neighbors: k.
        weights: `uniform`, or `distance`: nearer ones count more.

    Shapes: `(batch, n)` -> `(batch, units)`; weights: rows `(num_rows, n)`, counts
    `(num_rows, 1)`, values `(num_rows, units)` each times its count, and prior
    `(units + 1,)`: a value times a count, and that count, which is always in the mean.
    """

    def __init__(
        self,
        num_rows: int,
        units: int,
        num_neighbors: int,
        weights: Literal["uniform", "distance"] = "uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_rows, self.units = int(num_rows), int(units)
        self.num_neighbors = int(num_neighbors)
        self.weighting = weights

    def build(self, input_shape):
        self._store(
            rows=(self.num_rows, input_shape[-1]),
            counts=(self.num_rows, 1),
            values=(self.num_rows, self.units),
            prior=(self.units + 1,),
        )

    def call(self, x):
        def mean(x):
            squares = _squared_distances(x, self.rows)
            # of the negative: the smallest first
            kth = -ops.top_k(-squares, self.num_neighbors)[0][:, -1:]
            length = ops.sum(ops.square(x), axis=-1, keepdims=True)
            by_distance = self.weighting == "distance"
            near = neighbor_weights(squares, kth, length, by_distance)
            total = ops.matmul(near, self.counts) + self.prior[-1]
            return (ops.matmul(near, self.values) + self.prior[:-1]) / total

        return _in_chunks(mean, x)

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], self.units), "float32")

    def get_config(self):
        return super().get_config() | {
            "num_rows": self.num_rows,
            "units": self.units,
            "num_neighbors": self.num_neighbors,
            "weights": self.weighting,
        }


# --- densities and classes --------------------------------------------------------


@register
class GaussianLikelihood(_Stored):
    """Log density of a row under a normal distribution per class, columns apart.

    Args:
        num_classes: distributions.

    Shapes: `(batch, n)` -> `(batch, num_classes)`; weights: means and precisions (one
    over the variance) `(num_classes, n)`, constants `(num_classes,)` that are added.
    """

    def __init__(self, num_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = int(num_classes)

    def build(self, input_shape):
        shape = (self.num_classes, input_shape[-1])
        self._store(means=shape, precisions=shape, constants=shape[:1])

    def call(self, x):
        # Class by class, for the memory; expanded into products it would be one matmul,
        # in which float32 loses all where a variance is small.
        squares = [
            ops.sum(ops.square(x - self.means[c]) * self.precisions[c], axis=-1)
            for c in range(self.num_classes)
        ]
        return self.constants - 0.5 * ops.stack(squares, axis=-1)

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], self.num_classes), "float32")

    def get_config(self):
        return super().get_config() | {"num_classes": self.num_classes}


@register
class PlaceClasses(Exact):
    """Logits of the classes that train rows have, among those of all classes.

    Args:
        found: positions of those classes, two at least, rising.
        num_outputs: 1 for a task of two classes: the logit of the second.

    Shapes: `(batch, found)`, or `(batch, 1)` where two are found ->
    `(batch, num_outputs)`; log probabilities, `LEAST_LOGIT` for the other classes.
    """

    def __init__(self, found: Sequence[int], num_outputs: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.found = [int(one) for one in found]
        self.num_outputs = int(num_outputs)

    def call(self, logits):
        if self.num_outputs == 1:
            return logits if logits.shape[-1] == 1 else logits[:, 1:] - logits[:, :1]
        if logits.shape[-1] == 1:
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        places = np.eye(self.num_outputs, dtype="float32")[self.found]
        absent = LEAST_LOGIT * (1 - places.sum(axis=0))
        return ops.matmul(ops.log_softmax(logits, axis=-1), places) + absent

    def compute_output_spec(self, logits):
        return keras.KerasTensor((logits.shape[0], self.num_outputs), "float32")

    def get_config(self):
        return super().get_config() | {
            "found": self.found,
            "num_outputs": self.num_outputs,
        }
