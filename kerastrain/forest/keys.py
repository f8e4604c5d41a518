"""Values as integers in the same order, and where the nodes of a forest part them.

TensorFlow's kernels take denormal numbers for zero; integers are compared as they are.
"""

from dataclasses import dataclass

import numpy as np

from kerastrain.forest.trees import Trees

__all__ = ["NAN_KEY", "Edges", "keys_of"]

#: Key of NaN, above all others.
NAN_KEY = 2**31 - 1
_ABOVE_INF = NAN_KEY - 1


def keys_of(values: np.ndarray) -> np.ndarray:
    """Integers that compare as the numbers do, int32 of the same shape.

    >>> keys_of(np.array([-1, -0.0, 0.0, 1e-45, float("nan")], "float32")).tolist()
    [-1065353217, 0, 0, 1, 2147483647]
    """
    bits = np.ascontiguousarray(values, "float32").view("int32")
    bits = np.where(bits == np.int32(-(2**31)), np.int32(0), bits)
    keys = np.where(bits < 0, bits ^ np.int32(NAN_KEY), bits)
    return np.where(np.isnan(values), np.int32(NAN_KEY), keys)


def _values_of(keys: np.ndarray) -> np.ndarray:
    return np.where(keys < 0, keys ^ np.int32(NAN_KEY), keys).view("float32")


@dataclass(frozen=True)
class Edges:
    """Bins of each column within which all given nodes decide alike.

    A value's bin is the number of edges below it; NaN has the last bin for itself.

    Args:
        columns: int32 `(used,)`, columns that the nodes look at, at least one.
        keys: int32 `(used, most edges + 2)`: the edges, the last number above infinity,
            and `NAN_KEY` up to the width.
        counts: int64 `(used,)`, number of edges.
    """

    columns: np.ndarray
    keys: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, trees: Trees, nodes: np.ndarray) -> "Edges":
        columns = np.unique(trees.feature[nodes])
        columns = columns if len(columns) else np.zeros(1, "int32")
        edges = [_edges(trees, nodes[trees.feature[nodes] == c]) for c in columns]
        counts = np.array([len(one) for one in edges])
        keys = np.full((len(columns), counts.max() + 2), NAN_KEY, "int32")
        for row, one in zip(keys, edges, strict=True):
            row[: len(one)] = one
            row[len(one)] = _ABOVE_INF
        return cls(columns.astype("int32"), keys, counts)

    @property
    def num_bins(self) -> np.ndarray:
        """Of each column, that of NaN included, int64 `(used,)`."""
        return self.counts + 2

    def samples(self, place: int) -> np.ndarray:
        """A value out of each bin of a column, float32 `(bins,)`."""
        edges = _values_of(self.keys[place, : self.counts[place]])
        return np.concatenate([edges, np.array([np.inf, np.nan], "float32")])

    def places(self, columns: np.ndarray) -> np.ndarray:
        """Rows of `keys` for columns of the matrix."""
        return np.searchsorted(self.columns, columns)


def _edges(trees: Trees, nodes: np.ndarray) -> np.ndarray:
    is_set = trees.in_set[nodes] >= 0
    compared = keys_of(trees.threshold[nodes[~is_set]])
    used = np.unique(trees.in_set[nodes[is_set]])
    return np.unique(np.concatenate([compared, _set_edges(trees.sets[used])]))


def _set_edges(sets: np.ndarray) -> np.ndarray:
    """Keys of the largest values before membership in any set changes."""
    if not len(sets):
        return np.zeros(0, "int32")
    last = sets.shape[1] - 1
    # In the order of the number line: up to -1 (out of range), 0, 1 .. and beyond.
    along = np.concatenate([sets[:, last:], sets], axis=1)
    changes = (along[:, 1:] != along[:, :-1]).any(axis=0)
    below = np.nextafter(np.arange(1, last + 1, dtype="float32"), np.float32(0))
    ends = np.concatenate([np.array([-1], "float32"), below])
    return keys_of(ends[changes])
