"""Which form of a forest is fastest, and its arrays."""

from dataclasses import dataclass, replace

import numpy as np

from kerastrain.forest.bits import Top, cut, levels, table_of
from kerastrain.forest.keys import Edges
from kerastrain.forest.trees import Trees
from kerastrain.forest.walk import below_exits

__all__ = ["LAYOUTS", "Plan", "plan"]

#: Bits of a word that holds the exits of a tree; 1 walks from the root, 0 is unpacked.
LAYOUTS = {"bits64": 64, "bits32": 32, "walk": 1, "plain": 0}

#: Largest table of bits; it is part of an exported file.
MOST_TABLE_BYTES = 2**27

# Nanoseconds per row and tree on one core (see benchmarks/forest.py): a look-up and a
# conjunction per column, a step of the packed walk, what finds the lowest bit.
_COLUMN_NS = {64: 0.9, 32: 0.65}
_STEP_NS = 18.0
_EXIT_NS = 3.0


@dataclass(frozen=True)
class Plan:
    """A forest ready to be run.

    Args:
        layout: one of `LAYOUTS`.
        numbers: what the computation has to know, beside the arrays.
        arrays: by name.
    """

    layout: str
    numbers: dict[str, int]
    arrays: dict[str, np.ndarray]


def plan(trees: Trees, layout: str = "auto") -> Plan:
    """Arrays of a forest in a layout; "auto" takes the one that should be fastest."""
    groups, order = _by_output(trees)
    places = np.argsort(order).astype("int32")
    trees = replace(trees, roots=trees.roots[order])
    for name in _candidates(trees) if layout == "auto" else [layout]:
        found = _plain(trees) if name == "plain" else _compact(trees, name, groups)
        if found is not None:
            found.arrays["places"] = places
            return found
    # What was asked for does not fit; the plain walk always does.
    return plan(trees, "plain")


def _by_output(trees: Trees) -> tuple[int, np.ndarray]:
    """Number of equal groups of trees, one per output, and the order that makes them.

    0 groups where a tree adds to several outputs, as in a random forest.
    """
    num_trees, num_outputs = len(trees.roots), trees.num_outputs
    as_is = np.arange(num_trees)
    if num_outputs == 1:
        return 1, as_is
    owner = np.zeros(len(trees.left), "int64")
    owner[trees.roots] = as_is
    for nodes, tree in levels(trees):
        owner[trees.left[nodes]] = owner[trees.right[nodes]] = tree
    adds = np.zeros((num_trees, num_outputs), bool)
    node, output = np.nonzero(trees.value)
    adds[owner[node], output] = True
    if (adds.sum(axis=1) > 1).any():
        return 0, as_is
    # Trees that add nothing go where one is lacking.
    output = np.where(adds.any(axis=1), adds.argmax(axis=1), -1)
    counts = np.bincount(output[output >= 0], minlength=num_outputs)
    lacking = np.repeat(np.arange(num_outputs), counts.max(initial=0) - counts)
    if len(lacking) != (output < 0).sum():
        return 0, as_is
    output[output < 0] = lacking
    return num_outputs, np.argsort(output, kind="stable")


def _candidates(trees: Trees) -> list[str]:
    """Layouts, the fastest first."""
    cost_ns = {"walk": _STEP_NS * float(trees.depths().max(initial=0))}
    for word, column_ns in _COLUMN_NS.items():
        top = cut(trees, word)
        edges = Edges.of(trees, top.nodes)
        num_bytes = edges.num_bins.sum() * len(trees.roots) * word // 8
        if num_bytes <= MOST_TABLE_BYTES:
            columns_ns = len(edges.columns) * column_ns
            cost_ns[f"bits{word}"] = columns_ns + _EXIT_NS + top.steps * _STEP_NS
    return [*sorted(cost_ns, key=cost_ns.__getitem__), "plain"]


def _compact(trees: Trees, layout: str, groups: int) -> Plan | None:
    word = LAYOUTS[layout]
    top = cut(trees, word)
    numbers = {"trees": len(trees.roots), "steps": top.steps, "groups": groups}
    arrays = {} if word == 1 else _bit_arrays(trees, top)
    nodes = top.exits.ravel()
    if top.steps:
        below = below_exits(trees, top.exits)
        if below is None:
            return None
        nodes = below.nodes
        arrays["below_columns"] = below.edges.columns
        arrays["below_edges"] = below.edges.keys
        arrays["records"] = below.records
        arrays["set_goes_right"] = below.set_goes_right
        numbers["column_bits"] = below.column_bits
        numbers["first_set"] = below.first_set
    values = trees.value[np.maximum(nodes, 0)] * (nodes >= 0)[:, None]
    if groups:
        values = values.sum(axis=1)
    arrays |= {"nodes": nodes, "values": values.astype("float32")}
    return Plan(layout, numbers, arrays)


def _bit_arrays(trees: Trees, top: Top) -> dict[str, np.ndarray]:
    edges = Edges.of(trees, top.nodes)
    starts = np.cumsum(edges.num_bins) - edges.num_bins
    return {
        "columns": edges.columns,
        "edges": edges.keys,
        "starts": starts.astype("int32"),
        "open": table_of(trees, top, edges),
    }


def _plain(trees: Trees) -> Plan:
    """`Trees` as they are, but for thresholds that TensorFlow would take for zero."""
    threshold, least = trees.threshold, np.finfo("float32").tiny
    is_denormal = (np.abs(threshold) < least) & (threshold != 0)
    # Of normal values 0 and above are over a negative one, 0 and below under the other.
    stand_in = np.where(threshold < 0, -least, np.float32(0))
    arrays = {
        "feature": trees.feature,
        "threshold": np.where(is_denormal, stand_in, threshold),
        "left": trees.left,
        "right": trees.right,
        "missing_left": trees.missing_left,
        "in_set": trees.in_set,
        "sets": trees.sets.ravel(),
        "values": trees.value,
        "roots": trees.roots,
    }
    numbers = {
        "trees": len(trees.roots),
        "steps": int(trees.depths().max(initial=0)),
        "set_width": trees.sets.shape[1],
    }
    return Plan("plain", numbers, arrays)
