"""A booster of LightGBM as `Trees`: the same leaf for every float32 row."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kerastrain.errors import ConfigError
from kerastrain.forest.join import column, floor32, in_ranges, joined
from kerastrain.forest.trees import NO_SET, Trees

__all__ = ["read_lightgbm"]

# LightGBM takes what is not beyond this for zero: kZeroThreshold of its source.
_ZERO = np.float32(1e-35)
_BELOW_ZERO = np.nextafter(-_ZERO, np.float32(-np.inf))
_MOST_NODES = 2_000_000

# Bits of `decision_type` in the text of a model.
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_NO_MISSING, _ZERO_MISSING = 0, 1


def read_lightgbm(booster: Any) -> Trees:
    """The raw scores of a `lightgbm.Booster`, of its best round if it knows one.

    Raises:
        ConfigError: leaves that hold linear models (`linear_tree`).
    """
    text = booster.model_to_string()
    head, *trees = text.partition("\nend of trees")[0].split("\nTree=")
    header = _fields(head)
    outputs = int(header["num_tree_per_iteration"])
    share = outputs / len(trees) if "average_output" in header and trees else 1.0
    sets: list[np.ndarray] = []
    parts = []
    for number, tree in enumerate(trees):
        part = _tree(_fields(tree), sets)
        part["value"] = column(part["value"] * share, number % outputs, outputs)
        parts.append(part)
    return joined(parts, np.zeros(outputs), in_ranges(sets, others=False))


def _fields(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in lines}


def _numbers(fields: dict[str, str], name: str, dtype: str) -> np.ndarray:
    return np.array(fields.get(name, "").split(), dtype)


def _tree(fields: dict[str, str], sets: list[np.ndarray]) -> dict[str, np.ndarray]:
    """One tree, inner nodes first; its sets are added to `sets`."""
    if fields.get("is_linear", "0") != "0":
        raise ConfigError(
            "A LightGBM model with linear_tree has a linear model in each leaf, which "
            "no forest can hold; train it with linear_tree=False."
        )
    values = _numbers(fields, "leaf_value", "float64")
    inner = len(values) - 1
    threshold, decision, feature, left, right = (
        _numbers(fields, name, dtype)
        for name, dtype in (
            ("threshold", "float64"),
            ("decision_type", "int32"),
            ("split_feature", "int32"),
            ("left_child", "int32"),
            ("right_child", "int32"),
        )
    )
    here = np.arange(inner, inner + len(values))
    is_set = (decision & _CATEGORICAL) > 0
    missing = (decision >> 2) & 3
    # Where nothing was missing in the train rows, LightGBM reads NaN as 0.
    missing_left = np.where(
        missing == _NO_MISSING, threshold >= 0, (decision & _DEFAULT_LEFT) > 0
    )
    limits = floor32(np.where(is_set, np.inf, threshold))
    of_zero = np.where(limits < 0, _BELOW_ZERO, _ZERO)
    limits = np.where(np.abs(limits) <= _ZERO, of_zero, limits)
    part = {
        "feature": _then(feature, np.zeros(len(values), "int32")),
        "threshold": _then(limits, np.full(len(values), np.inf, "float32")),
        "left": _then(_child(left, inner), here),
        "right": _then(_child(right, inner), here),
        # A missing category goes right.
        "missing_left": _then(missing_left & ~is_set, np.zeros(len(values), bool)),
        "in_set": np.full(inner + len(values), NO_SET),
        "value": _then(np.zeros(inner), values),
        "leaf": _then(np.full(inner, -1), np.arange(len(values))),
    }
    number_of = np.where(is_set, threshold, 0).astype("int64")
    bits = list(_bit_sets(fields))
    for node in np.flatnonzero(is_set):
        part["in_set"][node] = len(sets)
        sets.append(bits[number_of[node]])
    is_zero = (missing == _ZERO_MISSING) & ~is_set
    return _spelled_out(part, np.flatnonzero(is_zero)) if is_zero.any() else part


def _then(inner: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    return np.concatenate([inner, leaves])


def _child(child: np.ndarray, inner: int) -> np.ndarray:
    """Leaves are written as -1, -2, ..."""
    return np.where(child < 0, inner + ~child, child)


def _bit_sets(fields: dict[str, str]) -> Iterator[np.ndarray]:
    """Codes that go left, bool `(codes,)`, of each set of a tree."""
    edges = _numbers(fields, "cat_boundaries", "int64")
    words = _numbers(fields, "cat_threshold", "uint32")
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        bits = words[start:end, None] >> np.arange(32, dtype="uint32") & 1
        yield bits.astype(bool).ravel()


# --- zero as missing --------------------------------------------------------------


def _spelled_out(
    part: dict[str, np.ndarray], zero_nodes: np.ndarray
) -> dict[str, np.ndarray]:
    """Nodes that send zero to one side, as comparisons; below, subtrees are repeated.

    Raises:
        ConfigError: the tree would become too large.
    """
    tests = {node: _tests(part, node) for node in zero_nodes.tolist()}
    grown: dict[str, list[Any]] = {name: [] for name in part}
    waiting = [(0, -1, "left")]  # node, number of its parent in `grown`, side
    while waiting:
        node, parent, side = waiting.pop()
        here = len(grown["left"])
        _check_size(here)
        if parent >= 0:
            grown[side][parent] = here
        plain = [(part["threshold"][node], "left", part["missing_left"][node])]
        for limit, below, missing_left in tests.get(node, plain):
            here = len(grown["left"])
            for name, values in part.items():
                grown[name].append(values[node])
            grown["threshold"][here] = limit
            grown["missing_left"][here] = missing_left
            grown["left"][here] = here
            grown["right"][here] = here + 1  # the next comparison, if there is one
            if part["leaf"][node] < 0:
                waiting.append((int(part[below][node]), here, "left"))
        if part["leaf"][node] < 0:
            waiting.append((int(part["right"][node]), here, "right"))
        else:
            grown["right"][here] = here
    return {name: np.array(values) for name, values in grown.items()}


def _check_size(num_nodes: int) -> None:
    if num_nodes > _MOST_NODES:
        raise ConfigError(
            "A tree of a LightGBM model with zero_as_missing has over "
            f"{_MOST_NODES:,} nodes when it is written as comparisons; train it with "
            "NaN for what is missing and zero_as_missing=False."
        )


def _tests(part: dict[str, np.ndarray], node: int) -> list[tuple[Any, str, bool]]:
    """Comparisons in order: the limit, the child that takes what is not above it, and
    whether that takes NaN too. What is above the last limit goes to the right child.
    """
    limit, zero_left = part["threshold"][node], bool(part["missing_left"][node])
    low, high = _BELOW_ZERO, _ZERO
    if low <= limit <= high:  # all that differs is where zero itself goes
        return [(high if zero_left else low, "left", zero_left)]
    if limit < low and zero_left:
        return [(limit, "left", False), (low, "right", False), (high, "left", True)]
    if limit > high and not zero_left:
        return [(low, "left", False), (high, "right", True), (limit, "left", False)]
    return [(limit, "left", zero_left)]
