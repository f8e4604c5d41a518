"""A forest as flat arrays: what every tree library is read into."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["Trees"]

NO_SET = -1


@dataclass(frozen=True)
class Trees:
    """Decision trees over the columns of one float32 matrix, laid end to end.

    A row goes left at a node iff

    * the value is NaN: `missing_left`;
    * the node has a set (`in_set >= 0`): the value, truncated to an integer, is in
      `sets[in_set]`; an integer outside `0 .. width - 2` counts as the last entry;
    * otherwise: `value <= threshold`, in float32.

    Libraries that compare otherwise (`<`, float64 thresholds, zero as missing) are
    rewritten to this when they are read, exactly: see the readers beside this file.

    Args:
        feature: int32 `(nodes,)`, column of the matrix; 0 at a leaf.
        threshold: float32 `(nodes,)`; +inf at a leaf.
        left, right: int32 `(nodes,)`, numbers of nodes; a leaf has itself as both.
        missing_left: bool `(nodes,)`.
        in_set: int32 `(nodes,)`, row of `sets`, or -1 for a comparison.
        sets: bool `(sets, width)`; the last column is for values out of range.
        value: float32 `(nodes, outputs)`, what a leaf adds; 0 inside a tree. Shrinkage
            and means over trees are already in it.
        roots: int32 `(trees,)`.
        base: float32 `(outputs,)`, added once.
        leaf: int32 `(nodes,)`, the library's own number of a leaf, -1 inside a tree.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    in_set: np.ndarray
    sets: np.ndarray
    value: np.ndarray
    roots: np.ndarray
    base: np.ndarray
    leaf: np.ndarray

    @property
    def num_outputs(self) -> int:
        return self.value.shape[1]

    @property
    def is_leaf(self) -> np.ndarray:
        return self.left == np.arange(len(self.left))

    def depths(self) -> np.ndarray:
        """Steps from the root to the deepest leaf of each tree, int64 `(trees,)`."""
        depth = np.zeros(len(self.roots), "int64")
        nodes, trees = self.roots, np.arange(len(self.roots))
        while True:
            inside = ~self.is_leaf[nodes]
            if not inside.any():
                return depth
            nodes, trees = nodes[inside], trees[inside]
            depth[trees] += 1
            # Each node has one parent, so both children of all of them are all below.
            below = np.concatenate([self.left[nodes], self.right[nodes]])
            nodes, trees = below, np.concatenate([trees, trees])

    def leaves(self, matrix: np.ndarray) -> np.ndarray:
        """Node that each row ends in, int32 `(rows, trees)`; the plain walk in NumPy.

        Args:
            matrix: float32 `(rows, columns)`.
        """
        at = np.broadcast_to(self.roots, (len(matrix), len(self.roots))).copy()
        rows = np.arange(len(matrix))[:, None]
        for _ in range(int(self.depths().max(initial=0))):
            goes_left = self.goes_left(at, matrix[rows, self.feature[at]])
            at = np.where(goes_left, self.left[at], self.right[at]).astype("int32")
        return at

    def goes_left(self, nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Where values go at nodes, bool; the two are broadcast against each other.

        Args:
            nodes: integers, numbers of nodes.
            values: float32, of the column that each node looks at.
        """
        left = values <= self.threshold[nodes]
        if len(self.sets):
            is_set = self.in_set[nodes] >= 0
            left = np.where(is_set, self._in_set(nodes, values), left)
        return np.where(np.isnan(values), self.missing_left[nodes], left)

    def _in_set(self, at: np.ndarray, x: np.ndarray) -> np.ndarray:
        last = self.sets.shape[1] - 1
        known = (x > -1) & (x < last)
        place = np.where(known, np.nan_to_num(x), last).astype("int64")
        return self.sets[np.maximum(self.in_set[at], 0), place]

    def outputs(self, matrix: np.ndarray) -> np.ndarray:
        """Sum over trees, float32 `(rows, outputs)`."""
        total = self.value[self.leaves(matrix)].sum(axis=1, dtype="float64")
        return (total + self.base).astype("float32")

    def arrays(self) -> dict[str, Any]:
        """By name, for saving."""
        return {one.name: getattr(self, one.name) for one in fields(self)}
