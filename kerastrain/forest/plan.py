"""Which form of a forest is fastest, and its arrays.

The table of bits has a row for each bin of a column and a word for each tree in it.
Trees that were not grown on the same bins (folds, random forests) make it grow with the
square of their number, so they are dealt to blocks, each with bins of its own. That was
found by Lucchese et al. 2015, "QuickScorer", section 3.3 (BlockWise-QuickScorer), for
the sake of the cache; here it is for the size of the file too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kerastrain.forest.bits import Top, cut, levels, table_of
from kerastrain.forest.keys import Edges
from kerastrain.forest.trees import Trees
from kerastrain.forest.walk import below_exits

__all__ = ["LAYOUTS", "Block", "Plan", "plan"]

#: Bits of a word that holds the exits of a tree; 1 walks from the root, 0 is unpacked.
LAYOUTS = {"bits64": 64, "bits32": 32, "walk": 1, "plain": 0}

# 6 folds of 300 trees of LightGBM, 8 columns, as one forest in 1 block / 8 / apart:
# 158 / 33 / 17 MB, one row 0.36 / 0.64 / 2.0 ms, 1,000 rows 34 / 27 / 28 ms (487 where
# it walks). A column more of a block is two operations more: 8 blocks of 69 columns,
# which saved 15 MB, made the export of ames take 34 s in place of 22.
#: Largest table of bits, of all blocks together; it is part of an exported file. What
#: is larger in any number of blocks walks: slower, and small.
MOST_TABLE_BYTES = 2**28
_SMALL_BYTES = 2**22  # below which nothing is worth saving
_SAVED = 0.7  # of the space, which twice as many blocks have to save
_MOST_BLOCKS = 64
_LEAST_TREES, _MANY_TREES = 32, 128  # of a block, where it must be and may be
_MOST_LOOKUPS = 64  # columns of all blocks together, where more blocks are a choice

# Nanoseconds per row and tree on one core (see benchmarks/forest.py): a look-up and a
# conjunction per column, a step of the packed walk, what finds the lowest bit.
_COLUMN_NS = {64: 0.9, 32: 0.65}
_STEP_NS = 18.0
_EXIT_NS = 3.0
_BIN_NS = 30.0  # per row, block and column: the search for a bin


@dataclass(frozen=True)
class Block:
    """Some trees of a forest, ready to be run.

    Args:
        numbers: what the computation has to know, beside the arrays.
        arrays: by name.
    """

    numbers: dict[str, int]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """A forest ready to be run.

    Args:
        layout: one of `LAYOUTS`.
        blocks: of all trees.
        places: int32 `(trees,)`, of each tree among those of the blocks, one block
            after the other.
    """

    layout: str
    blocks: Sequence[Block]
    places: np.ndarray


def plan(trees: Trees, layout: str = "auto", num_blocks: int = 1) -> Plan:
    """Arrays of a forest in a layout.

    Args:
        layout: "auto" takes the one that should be fastest, and blocks as needed.
        num_blocks: of another layout than that and "plain", which has one.
    """
    outputs, order = _by_output(trees)
    choices = [(layout, 1 if layout == "plain" else num_blocks)]
    if layout == "auto":
        choices = _candidates(trees, outputs, order)
    for name, number in choices:
        parts = _dealt(order, outputs, number)
        blocks = _blocks(trees, name, outputs, parts)
        if len(blocks) == number:
            places = np.argsort(np.concatenate(parts)).astype("int32")
            return Plan(name, blocks, places)
    # What was asked for does not fit; the plain walk always does.
    return plan(trees, "plain")


def _dealt(order: np.ndarray, outputs: int, num_blocks: int) -> list[np.ndarray]:
    """Trees of each block: neighbours, and of each output equally many."""
    by_output = order.reshape(max(1, outputs), -1)
    return [part.ravel() for part in np.array_split(by_output, num_blocks, axis=1)]


def _blocks(
    trees: Trees, layout: str, outputs: int, parts: Sequence[np.ndarray]
) -> list[Block]:
    """Of each part; those before the first that does not fit."""
    blocks: list[Block] = []
    for part in parts:
        some = replace(trees, roots=trees.roots[part])
        is_plain = layout == "plain"
        block = _plain(some) if is_plain else _compact(some, layout, outputs)
        if block is None:
            break
        blocks.append(block)
    return blocks


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


def _candidates(trees: Trees, outputs: int, order: np.ndarray) -> list[tuple[str, int]]:
    """Layouts with numbers of blocks, the fastest first."""
    depth = float(trees.depths().max(initial=0))
    cost_ns = {("walk", 1): _STEP_NS * depth}
    for word, column_ns in _COLUMN_NS.items():
        top = cut(trees, word)
        found = _fitting(trees, top, outputs, order)
        if found is not None:
            number, columns = found
            # The first search is left out: the packed walk has one too.
            bins_ns = (number - 1) * columns * _BIN_NS / max(1, len(trees.roots))
            below_ns = _EXIT_NS + top.steps * _STEP_NS
            cost_ns[f"bits{word}", number] = columns * column_ns + bins_ns + below_ns
    return [*sorted(cost_ns, key=cost_ns.__getitem__), ("plain", 1)]


def _fitting(
    trees: Trees, top: Top, outputs: int, order: np.ndarray
) -> tuple[int, float] | None:
    """How many blocks, and columns of one; None where no number fits.

    The fewest whose tables stay within the limit, and twice as many as long as that
    saves space and leaves many trees in each.
    """
    num_trees, found, least = len(trees.roots), None, np.inf
    most = num_trees // max(1, outputs)  # a block has a tree of each output
    for number in (2**power for power in range(_MOST_BLOCKS.bit_length())):
        is_few = num_trees // number < (_LEAST_TREES if found is None else _MANY_TREES)
        if number > 1 and (is_few or number > most):
            break
        num_bytes, columns = _tables(trees, top, _dealt(order, outputs, number))
        if found and (num_bytes > _SAVED * least or number * columns > _MOST_LOOKUPS):
            break
        if num_bytes <= MOST_TABLE_BYTES:
            found, least = (number, columns), num_bytes
        if found and num_bytes <= _SMALL_BYTES:
            break
    return found


def _tables(trees: Trees, top: Top, parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Bytes of the tables of all blocks, and the mean number of columns of one."""
    num_trees, word = top.exits.shape
    block = np.zeros(num_trees, "int64")
    for place, part in enumerate(parts):
        block[part] = place
    owner = block[top.tree]
    edges = [Edges.of(trees, top.nodes[owner == p]) for p in range(len(parts))]
    num_words = sum(
        int(one.num_bins.sum()) * len(part)
        for one, part in zip(edges, parts, strict=True)
    )
    return num_words * word / 8, float(np.mean([len(one.columns) for one in edges]))


def _compact(trees: Trees, layout: str, outputs: int) -> Block | None:
    word = LAYOUTS[layout]
    top = cut(trees, word)
    numbers = {"trees": len(trees.roots), "steps": top.steps, "outputs": outputs}
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
    if outputs:
        values = values.sum(axis=1)
    arrays |= {"nodes": nodes, "values": values.astype("float32")}
    return Block(numbers, arrays)


def _bit_arrays(trees: Trees, top: Top) -> dict[str, np.ndarray]:
    edges = Edges.of(trees, top.nodes)
    starts = np.cumsum(edges.num_bins) - edges.num_bins
    return {
        "columns": edges.columns,
        "edges": edges.keys,
        "starts": starts.astype("int32"),
        "open": table_of(trees, top, edges),
    }


def _plain(trees: Trees) -> Block:
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
    return Block(numbers, arrays)
