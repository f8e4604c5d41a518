"""The tops of all trees as bit sets: no step down a tree, one look-up per column.

The exits of a top (its leaves, or the nodes where it was cut) are numbered from left to
right. A node that sends a row to the right rules out the exits on its left. For every
bin of a column a table holds, per tree, the exits that no node of that column rules
out; the row leaves by the lowest bit that is left in the conjunction over columns.

Reference: Lucchese et al. 2015, "QuickScorer". DIFFERS: the sorted thresholds are
replaced by bins, so that one contiguous row of a table stands for all nodes of a column
in all trees; trees with more leaves than a word has bits are cut instead of using more
words.
"""

from dataclasses import dataclass

import numpy as np

from kerastrain.forest.keys import Edges
from kerastrain.forest.trees import Trees

__all__ = ["Top", "cut", "levels", "table_of"]

_BINS_AT_ONCE = 256

Level = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Top:
    """The first nodes of each tree, and where rows leave them.

    Args:
        nodes: int64 `(inner,)`, nodes that are decided by bits.
        tree: int64 `(inner,)`, place of their tree.
        first, count: int64 `(inner,)`, exits below the left child.
        exits: int32 `(trees, word)`, node of each exit, -1 where there is none.
        steps: that remain below the deepest exit.
    """

    nodes: np.ndarray
    tree: np.ndarray
    first: np.ndarray
    count: np.ndarray
    exits: np.ndarray
    steps: int


def levels(trees: Trees) -> list[Level]:
    """Inner nodes of all trees by depth, and the places of their trees."""
    found: list[Level] = []
    is_leaf = trees.is_leaf
    nodes, tree = trees.roots.astype("int64"), np.arange(len(trees.roots))
    while True:
        inside = ~is_leaf[nodes]
        nodes, tree = nodes[inside], tree[inside]
        if not len(nodes):
            return found
        found.append((nodes, tree))
        nodes = np.concatenate([trees.left[nodes], trees.right[nodes]]).astype("int64")
        tree = np.concatenate([tree, tree])


def heights(trees: Trees, by_depth: list[Level]) -> np.ndarray:
    """Steps from each node to the deepest leaf below it, int64 `(nodes,)`."""
    height = np.zeros(len(trees.left), "int64")
    for nodes, _ in reversed(by_depth):
        below = np.maximum(height[trees.left[nodes]], height[trees.right[nodes]])
        height[nodes] = below + 1
    return height


def cut(trees: Trees, word: int) -> Top:
    """Take at most `word` exits per tree, so that the fewest steps remain below.

    Args:
        word: bits; 1 takes nothing, so that all exits are roots.
    """
    by_depth = levels(trees)
    height = heights(trees, by_depth)
    taken = _highest(by_depth, height, word - 1)
    by_depth = [(n[taken[n]], tree[taken[n]]) for n, tree in by_depth]
    count = np.ones(len(trees.left), "int64")  # exits below a node
    for nodes, _ in reversed(by_depth):
        count[nodes] = count[trees.left[nodes]] + count[trees.right[nodes]]
    first = np.zeros(len(trees.left), "int64")
    exits = np.full((len(trees.roots), word), -1, "int32")
    is_root_exit = ~taken[trees.roots]
    exits[is_root_exit, 0] = trees.roots[is_root_exit]
    for nodes, tree in by_depth:
        left, right = trees.left[nodes], trees.right[nodes]
        first[left], first[right] = first[nodes], first[nodes] + count[left]
        for child in (left, right):
            ends = ~taken[child]
            exits[tree[ends], first[child[ends]]] = child[ends]
    nodes, tree = _joined(by_depth)
    left = trees.left[nodes]
    steps = int(height[exits[exits >= 0]].max(initial=0))
    return Top(nodes, tree, first[left], count[left], exits, steps)


def _joined(by_depth: list[Level]) -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros(0, "int64")  # where all trees are single leaves
    nodes = np.concatenate([none, *(nodes for nodes, _ in by_depth)])
    return nodes, np.concatenate([none, *(tree for _, tree in by_depth)])


def _highest(by_depth: list[Level], height: np.ndarray, limit: int) -> np.ndarray:
    """Which nodes are among the `limit` highest of their tree; parents come first."""
    taken = np.zeros(len(height), bool)
    nodes, tree = _joined(by_depth)
    order = np.lexsort((-height[nodes], tree))
    nodes, tree = nodes[order], tree[order]
    place = np.arange(len(nodes)) - np.searchsorted(tree, tree)
    taken[nodes[place < limit]] = True
    return taken


def table_of(trees: Trees, top: Top, edges: Edges) -> np.ndarray:
    """Exits that a bin leaves open: integers of `word` bits, `(all bins, trees)`."""
    num_trees, word = top.exits.shape
    whole = np.dtype(f"uint{word}").type
    # Ones in the lowest `count` places, moved up to `first`, turned round.
    shut = ((whole(1) << top.count.astype(whole)) - whole(1)) << top.first.astype(whole)
    table = np.full((edges.num_bins.sum(), num_trees), ~whole(0))
    places = edges.places(trees.feature[top.nodes])
    start = 0
    for place, num_bins in enumerate(edges.num_bins):
        mine = np.flatnonzero(places == place)
        mine = mine[np.argsort(top.tree[mine], kind="stable")]
        block = table[start : start + num_bins]
        if len(mine):
            _fill(block, trees, top, mine, ~shut[mine], edges.samples(place))
        start += num_bins
    return table.view(f"int{word}")


def _fill(
    block: np.ndarray,
    trees: Trees,
    top: Top,
    mine: np.ndarray,
    masks: np.ndarray,
    samples: np.ndarray,
) -> None:
    """Conjunction of the masks of the nodes that each bin fails, tree by tree."""
    owners, begins = np.unique(top.tree[mine], return_index=True)
    for start in range(0, len(samples), _BINS_AT_ONCE):
        values = samples[start : start + _BINS_AT_ONCE, None]
        left = trees.goes_left(top.nodes[mine], values)
        open_ = np.where(left, ~masks.dtype.type(0), masks)
        block[start : start + len(values), owners] = np.bitwise_and.reduceat(
            open_, begins, axis=1
        )
