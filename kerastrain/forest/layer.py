"""`Forest`: trees as a Keras layer."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastrain.forest.keys import NAN_KEY
from kerastrain.forest.plan import LAYOUTS, plan
from kerastrain.forest.trees import Trees
from kerastrain.layers import Exact, register

__all__ = ["Forest"]

Shapes = dict[str, tuple[str, list[int]]]


@register
class Forest(Exact):
    """The sum over the trees of a forest, the same leaf of each tree as `Trees.leaves`.

    The first up to 64 leaves of all trees are found by bit sets (see
    `kerastrain.forest.bits`), what lies deeper by a walk over packed nodes
    (`kerastrain.forest.walk`); the layout "plain" walks over `Trees` as they are, in
    `keras.ops` alone, for backends and formats that have no operations on bits.

    Args:
        trees: the forest; None where a saved one is loaded.
        layout: "bits64", "bits32", "walk", "plain", or "auto", the one that should be
            fastest. One that does not fit becomes "plain".
        chunk_size: rows times trees that are computed at once.
        saved: what `get_config` gives beside: numbers and shapes.

    Shapes: float32 `(batch, columns)` -> float32 `(batch, outputs)`.
    Reference: Lucchese et al. 2015, "QuickScorer", sections 3 and 4.
    DIFFERS: "plain" takes denormal numbers for zero, as all arithmetic of TensorFlow.
    """

    def __init__(
        self,
        trees: Trees | None = None,
        *,
        layout: str = "auto",
        chunk_size: int = 2**17,
        saved: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs | {"trainable": False})
        self.chunk_size = chunk_size
        if layout not in ("auto", *LAYOUTS):
            raise ValueError(f"Forest has no layout {layout!r}: {', '.join(LAYOUTS)}.")
        arrays: dict[str, dict[str, np.ndarray]] = {}
        if trees is not None:
            planned = plan(trees, layout)
            arrays = {"trees": trees.arrays(), "planned": planned.arrays}
            saved = {name: _shapes(group) for name, group in arrays.items()}
            saved["numbers"], layout = planned.numbers, planned.layout
        elif saved is None:
            raise ValueError("Forest needs trees, as `kerastrain.forest.trees.Trees`.")
        self.layout = layout
        self.numbers: dict[str, int] = dict(saved["numbers"])
        self.shapes: dict[str, Shapes] = {n: saved[n] for n in ("trees", "planned")}
        if arrays:
            self.build(None)
            self._assign(arrays)

    def build(self, input_shape: Any) -> None:
        if hasattr(self, "_parts"):
            return
        self._parts = {
            group: {
                name: self.add_weight(
                    name=f"{group}_{name}",
                    shape=shape,
                    dtype=dtype,
                    initializer="zeros",
                    trainable=False,
                )
                for name, (dtype, shape) in shapes.items()
            }
            for group, shapes in self.shapes.items()
        }
        self.built = True

    def _assign(self, arrays: dict[str, dict[str, np.ndarray]]) -> None:
        for group, parts in arrays.items():
            for name, array in parts.items():
                self._parts[group][name].assign(array)

    @property
    def trees(self) -> Trees:
        """The forest as flat arrays."""
        parts = self._parts["trees"]
        return Trees(**{name: ops.convert_to_numpy(v) for name, v in parts.items()})

    def plain(self) -> "Forest":
        """The same forest in `keras.ops` alone, for an export to another runtime."""
        return Forest(self.trees, layout="plain", name=self.name)

    # What is planned follows from the trees, so a file holds the trees alone.
    def save_own_variables(self, store: Any) -> None:
        for name, array in self.trees.arrays().items():
            store[name] = array

    def load_own_variables(self, store: Any) -> None:
        trees = Trees(
            **{name: np.asarray(store[name]) for name in self.shapes["trees"]}
        )
        planned = plan(trees, self.layout)
        self._assign({"trees": trees.arrays(), "planned": planned.arrays})

    # --- computation ------------------------------------------------------------

    def call(self, x: Any) -> Any:
        if self.layout == "plain":
            leaves = self._plain_walk(x)
            total = ops.sum(ops.take(self._part("values"), leaves, axis=0), axis=1)
        else:
            total = self._in_chunks(x, self._sums, self.shapes["trees"]["base"][1])
        return total + self._parts["trees"]["base"]

    def leaves(self, x: Any) -> Any:
        """Node of `Trees` that each row ends in, int32 `(batch, trees)`."""
        if self.layout == "plain":
            return ops.take(self._plain_walk(x), self._part("places"), axis=1)
        return self._in_chunks(x, self._nodes, [self.numbers["trees"]])

    def _part(self, name: str) -> Any:
        return ops.convert_to_tensor(self._parts["planned"][name])

    def _in_chunks(self, x: Any, function: Any, shape: list[int]) -> Any:
        """Apply to equal pieces of rows; the last may begin in the one before."""
        at_once = max(16, self.chunk_size // max(1, self.numbers["trees"]))
        if x.shape[0] is not None and x.shape[0] <= at_once:
            return function(x)
        rows = tf.shape(x)[0]
        num_pieces = tf.maximum(1, -(-rows // at_once))
        size = -(-rows // num_pieces)
        starts = tf.minimum(tf.range(num_pieces) * size, rows - size)
        dtype = "float32" if function == self._sums else "int32"
        pieces = tf.map_fn(
            lambda start: function(x[start : start + size]),
            starts,
            fn_output_signature=tf.TensorSpec((None, *shape), dtype),
        )
        whole = tf.reshape(pieces[:-1], (-1, *shape))
        last = pieces[-1, size * num_pieces - rows :]
        return tf.concat([whole, last], axis=0)

    def _sums(self, x: Any) -> Any:
        values = tf.gather(self._part("values"), self._exits(x))
        groups = self.numbers["groups"]
        if not groups:
            return tf.reduce_sum(values, axis=1)
        per_output = (-1, groups, self.numbers["trees"] // groups)
        return tf.reduce_sum(tf.reshape(values, per_output), axis=-1)

    def _nodes(self, x: Any) -> Any:
        nodes = tf.gather(self._part("nodes"), self._exits(x))
        return tf.gather(nodes, self._part("places"), axis=1)

    def _exits(self, x: Any) -> Any:
        """Places among the exits or packed nodes, int32 `(rows, trees)`."""
        keys = _keys(x)
        word = LAYOUTS[self.layout]
        at = tf.range(self.numbers["trees"]) * word
        if word == 1:
            at = tf.repeat(at[None], tf.shape(x)[0], axis=0)
        else:
            at = at + self._lowest_bits(keys)
        if self.numbers["steps"]:
            at = self._walk(keys, at)
        return at

    def _lowest_bits(self, keys: Any) -> Any:
        bins = _bins(keys, self._part("columns"), self._part("edges"))
        bins += self._part("starts")[:, None]
        table = self._part("open")
        left_open = tf.gather(table, bins[0])
        for column in range(1, self.shapes["planned"]["columns"][1][0]):
            left_open &= tf.gather(table, bins[column])
        below = tf.bitwise.invert(left_open) & (left_open - 1)
        return tf.cast(tf.raw_ops.PopulationCount(x=below), "int32")

    def _walk(self, keys: Any, at: Any) -> Any:
        bins = _bins(keys, self._part("below_columns"), self._part("below_edges"))
        is_nan = tf.gather(keys, self._part("below_columns"), axis=1) == NAN_KEY
        bins = tf.transpose(bins)
        bins = tf.concat([bins, tf.where(is_nan, 0, bins)], axis=1)
        row = (tf.range(tf.shape(bins)[0]) * bins.shape[1])[:, None]
        bins, records = tf.reshape(bins, [-1]), self._part("records")
        bits = self.numbers["column_bits"]
        for _ in range(self.numbers["steps"]):
            record = tf.gather(records, at)
            low = tf.cast(record, "int32")
            column, rank = low & (2**bits - 1), tf.bitwise.right_shift(low, bits)
            child = tf.cast(tf.bitwise.right_shift(record, np.int64(32)), "int32")
            at = child + self._goes_right(tf.gather(bins, row + column), rank)
        return at

    def _goes_right(self, bins: Any, rank: Any) -> Any:
        right = bins > rank
        num_sets, num_bins = self.shapes["planned"]["set_goes_right"][1]
        if num_sets:
            of_set = rank - self.numbers["first_set"]
            place = tf.maximum(of_set, 0) * num_bins + tf.minimum(bins, num_bins - 1)
            table = tf.reshape(self._part("set_goes_right"), [-1])
            right = tf.where(of_set >= 0, tf.gather(table, place), right)
        return tf.cast(right, "int32")

    def _plain_walk(self, x: Any) -> Any:
        part, width = self._part, x.shape[1]
        flat = ops.reshape(x, (-1,))
        row = ops.expand_dims(ops.arange(ops.shape(x)[0], dtype="int32") * width, 1)
        at = ops.expand_dims(part("roots"), 0) + ops.zeros_like(row)
        for _ in range(self.numbers["steps"]):
            value = ops.take(flat, row + ops.take(part("feature"), at))
            is_nan = ops.isnan(value)
            value = ops.where(is_nan, 0.0, value)
            # Not `<=`: that is true of NaN in files of ONNX that TensorFlow's become.
            left = ops.logical_not(value > ops.take(part("threshold"), at))
            if self.shapes["planned"]["sets"][1][0]:
                left = self._plain_sets(at, value, left)
            left = ops.where(is_nan, ops.take(part("missing_left"), at), left)
            at = ops.where(
                left, ops.take(part("left"), at), ops.take(part("right"), at)
            )
        return at

    def _plain_sets(self, at: Any, value: Any, left: Any) -> Any:
        width, in_set = self.numbers["set_width"], ops.take(self._part("in_set"), at)
        known = ops.logical_and(value > -1.0, value < float(width - 1))
        code = ops.cast(ops.where(known, value, float(width - 1)), "int32")
        place = ops.maximum(in_set, 0) * width + code
        return ops.where(in_set >= 0, ops.take(self._part("sets"), place), left)

    def compute_output_spec(self, x: Any) -> Any:
        shape = (x.shape[0], *self.shapes["trees"]["base"][1])
        return keras.KerasTensor(shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "layout": self.layout,
            "chunk_size": self.chunk_size,
            "saved": {"numbers": self.numbers, **self.shapes},
        }


def _shapes(arrays: dict[str, np.ndarray]) -> Shapes:
    return {n: (str(a.dtype), list(a.shape)) for n, a in arrays.items()}


def _keys(x: Any) -> Any:
    """`kerastrain.forest.keys.keys_of` in TensorFlow."""
    bits = tf.bitcast(x, "int32")
    bits = tf.where(bits == tf.int32.min, 0, bits)
    keys = tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, NAN_KEY), bits)
    return tf.where(tf.math.is_nan(x), NAN_KEY, keys)


def _bins(keys: Any, columns: Any, edges: Any) -> Any:
    """Edges below each key: `(rows, columns)` to int32 `(used columns, rows)`."""
    return tf.searchsorted(edges, tf.transpose(tf.gather(keys, columns, axis=1)))
