"""What lies below the tops of the trees: one packed integer per node.

A step is two look-ups, one of the node and one of the row's bin: siblings lie side by
side, so that `child + (bin > rank)` is the next node. Values are bins, see `Edges`;
each column has two of them, with NaN above everything and below everything, so that the
direction of missing values is a choice of column.
"""

from dataclasses import dataclass

import numpy as np

from kerastrain.forest.keys import Edges, keys_of
from kerastrain.forest.trees import Trees

__all__ = ["Below", "below_exits"]

#: Largest table of set decisions, in bytes.
_MOST_SET_BYTES = 2**27


@dataclass(frozen=True)
class Below:
    """Nodes below the exits, packed.

    Args:
        edges: bins of these nodes' columns.
        records: int64 `(packed,)`: column in the lowest `column_bits`, then the rank up
            to bit 31, then the number of the left child. The first ones are the exits.
        nodes: int32 `(packed,)`, number in `Trees`; -1 for an exit that is none.
        set_goes_right: bool `(set nodes, bins)`, for ranks from `first_set` on.
    """

    edges: Edges
    records: np.ndarray
    nodes: np.ndarray
    set_goes_right: np.ndarray
    column_bits: int
    first_set: int


def below_exits(trees: Trees, exits: np.ndarray) -> Below | None:
    """Pack what lies below; None where it does not fit (then nodes stay unpacked)."""
    nodes, child = _numbered(trees, exits.ravel())
    inner = np.flatnonzero(child >= 0)
    edges = Edges.of(trees, nodes[inner])
    column, rank = np.zeros(len(nodes), "int64"), np.zeros(len(nodes), "int64")
    used, num_used = nodes[inner], len(edges.columns)
    is_set = trees.in_set[used] >= 0
    places = edges.places(trees.feature[used])
    column[inner] = places + num_used * (trees.missing_left[used] & ~is_set)
    first_set = int(edges.num_bins.max())
    rank[:] = first_set - 1  # no bin is above it: leaves stay where they are
    rank[inner] = _ranks(edges, places, keys_of(trees.threshold[used]))
    rank[inner[is_set]] = first_set + np.arange(is_set.sum())
    child = np.where(child >= 0, child, np.arange(len(nodes)))
    column_bits = int(2 * num_used - 1).bit_length()
    set_bins = int(edges.num_bins[np.unique(places[is_set])].max(initial=1))
    if (
        column_bits + int(rank.max()).bit_length() > 31
        or len(nodes) > 2**31
        or int(is_set.sum()) * set_bins > _MOST_SET_BYTES
    ):
        return None
    records = column | rank << column_bits | child << 32
    right = _set_decisions(trees, edges, used[is_set], places[is_set], set_bins)
    return Below(edges, records, nodes, right, column_bits, first_set)


def _numbered(trees: Trees, exits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in the order exits, then pairs of siblings; and left children, or -1."""
    is_leaf = trees.is_leaf
    all_nodes, all_children, size = [], [], len(exits)
    nodes = exits.astype("int32")
    while len(nodes):
        inner = np.flatnonzero((nodes >= 0) & ~is_leaf[nodes])
        child = np.full(len(nodes), -1, "int64")
        child[inner] = size + 2 * np.arange(len(inner))
        size += 2 * len(inner)
        all_nodes.append(nodes)
        all_children.append(child)
        inner = nodes[inner]
        nodes = np.stack([trees.left[inner], trees.right[inner]], axis=1).ravel()
    return np.concatenate(all_nodes), np.concatenate(all_children)


def _ranks(edges: Edges, places: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Position of each node's threshold among the edges of its column."""
    rank = np.zeros(len(keys), "int64")
    for place in range(len(edges.columns)):
        mine = places == place
        rank[mine] = np.searchsorted(edges.keys[place], keys[mine])
    return rank


def _set_decisions(
    trees: Trees, edges: Edges, nodes: np.ndarray, places: np.ndarray, num_bins: int
) -> np.ndarray:
    right = np.zeros((len(nodes), num_bins), bool)
    for place in np.unique(places):
        mine, samples = np.flatnonzero(places == place), edges.samples(place)
        left = trees.goes_left(nodes[mine, None], samples[None, :])
        right[mine, : len(samples)] = ~left
    return right
