"""The computation on some trees of a forest, from planned arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from kerastrain.forest.keys import NAN_KEY
from kerastrain.forest.plan import LAYOUTS

__all__ = ["PlainTrees", "TreeBlock", "tensor_keys"]


@dataclass(frozen=True)
class TreeBlock:
    """Trees of `bits64`, `bits32` or `walk`, in operations of TensorFlow.

    Args:
        layout: one of `LAYOUTS`.
        numbers, parts: those of a `kerastrain.forest.plan.Block`; `parts` are variables
            with its arrays.
    """

    layout: str
    numbers: Mapping[str, int]
    parts: Mapping[str, Any]

    def sums(self, keys: Any) -> Any:
        """Of the values of each row's leaves, float32 `(rows, outputs)`.

        Args:
            keys: of `tensor_keys`, int32 `(rows, columns)`.
        """
        values = tf.gather(self._part("values"), self._exits(keys))
        outputs = self.numbers["outputs"]
        if not outputs:
            return tf.reduce_sum(values, axis=1)
        per_output = (-1, outputs, self.numbers["trees"] // outputs)
        return tf.reduce_sum(tf.reshape(values, per_output), axis=-1)

    def nodes(self, keys: Any) -> Any:
        """Nodes of `Trees` that rows end in, int32 `(rows, trees)`."""
        return tf.gather(self._part("nodes"), self._exits(keys))

    def _part(self, name: str) -> Any:
        return ops.convert_to_tensor(self.parts[name])

    def _exits(self, keys: Any) -> Any:
        """Places among the exits or packed nodes, int32 `(rows, trees)`."""
        word = LAYOUTS[self.layout]
        at = tf.range(self.numbers["trees"]) * word
        if word == 1:
            at = tf.repeat(at[None], tf.shape(keys)[0], axis=0)
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
        for column in range(1, self.parts["columns"].shape[0]):
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
        num_sets, num_bins = self.parts["set_goes_right"].shape
        if num_sets:
            of_set = rank - self.numbers["first_set"]
            place = tf.maximum(of_set, 0) * num_bins + tf.minimum(bins, num_bins - 1)
            table = tf.reshape(self._part("set_goes_right"), [-1])
            right = tf.where(of_set >= 0, tf.gather(table, place), right)
        return tf.cast(right, "int32")


@dataclass(frozen=True)
class PlainTrees:
    """Trees as they are, in `keras.ops` alone.

    Args:
        numbers, parts: as those of `TreeBlock`.
    """

    numbers: Mapping[str, int]
    parts: Mapping[str, Any]

    def sums(self, x: Any) -> Any:
        """Of the values of each row's leaves, float32 `(rows, outputs)`.

        Args:
            x: float32 `(rows, columns)`.
        """
        return ops.sum(ops.take(self._part("values"), self.nodes(x), axis=0), axis=1)

    def nodes(self, x: Any) -> Any:
        """Nodes of `Trees` that rows end in, int32 `(rows, trees)`."""
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
            if self.parts["sets"].shape[0]:
                left = self._in_sets(at, value, left)
            left = ops.where(is_nan, ops.take(part("missing_left"), at), left)
            at = ops.where(
                left, ops.take(part("left"), at), ops.take(part("right"), at)
            )
        return at

    def _in_sets(self, at: Any, value: Any, left: Any) -> Any:
        width, in_set = self.numbers["set_width"], ops.take(self._part("in_set"), at)
        known = ops.logical_and(value > -1.0, value < float(width - 1))
        code = ops.cast(ops.where(known, value, float(width - 1)), "int32")
        place = ops.maximum(in_set, 0) * width + code
        return ops.where(in_set >= 0, ops.take(self._part("sets"), place), left)

    def _part(self, name: str) -> Any:
        return ops.convert_to_tensor(self.parts[name])


def tensor_keys(x: Any) -> Any:
    """`kerastrain.forest.keys.keys_of` in TensorFlow."""
    bits = tf.bitcast(x, "int32")
    bits = tf.where(bits == tf.int32.min, 0, bits)
    keys = tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, NAN_KEY), bits)
    return tf.where(tf.math.is_nan(x), NAN_KEY, keys)


def _bins(keys: Any, columns: Any, edges: Any) -> Any:
    """Edges below each key: `(rows, columns)` to int32 `(used columns, rows)`."""
    return tf.searchsorted(edges, tf.transpose(tf.gather(keys, columns, axis=1)))
