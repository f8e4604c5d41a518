"""Trees of any library laid end to end, and thresholds that float32 compares alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from kerastrain.forest.trees import NO_SET, Trees

__all__ = ["below32", "column", "floor32", "in_ranges", "joined", "mean_of", "one_leaf"]

_LEAST_NORMAL = np.finfo("float32").tiny


def floor32(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 not above each: `x <= t` is `x <= floor32(t)` for float32 x.

    Subnormal numbers count as 0, as TensorFlow takes them.
    """
    with np.errstate(over="ignore", under="ignore"):  # beyond float32 is infinite
        near = np.asarray(thresholds).astype("float32")
        below = np.nextafter(near, np.float32(-np.inf))
    return _normal(np.where(near > thresholds, below, near))


def below32(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 below each: `x < t` is `x <= below32(t)` for float32 x."""
    with np.errstate(over="ignore", under="ignore"):
        below = np.nextafter(thresholds.astype("float32"), np.float32(-np.inf))
    return _normal(below)


def _normal(thresholds: np.ndarray) -> np.ndarray:
    is_subnormal = (thresholds < 0) & (thresholds > -_LEAST_NORMAL)
    return np.where(is_subnormal, -_LEAST_NORMAL, thresholds).astype("float32")


def column(values: np.ndarray, output: int, num_outputs: int) -> np.ndarray:
    """Values `(nodes,)` of one output as `(nodes, num_outputs)`, 0 for the others."""
    placed = np.zeros((len(values), num_outputs), "float32")
    placed[:, output] = values
    return placed


def in_ranges(sets: Sequence[np.ndarray], *, others: bool) -> np.ndarray:
    """`Trees.sets` `(sets, width)` from bool arrays that start at code 0.

    Args:
        others: of codes beyond the end of an array.
    """
    width = max((len(one) for one in sets), default=0) + 1
    rows = np.full((len(sets), width), others)
    for row, one in zip(rows, sets, strict=True):
        row[: len(one)] = one
    return rows


def joined(
    parts: Sequence[Mapping[str, np.ndarray]],
    base: np.ndarray,
    sets: np.ndarray | None = None,
) -> Trees:
    """Trees whose nodes are counted from their own roots, laid end to end.

    Args:
        parts: the arrays of `Trees` by name for each tree, roots first; `in_set` counts
            in `sets`.
        base: `(outputs,)`.
    """
    if not parts:
        return one_leaf(base)
    sizes = [len(part["left"]) for part in parts]
    starts = np.cumsum([0, *sizes[:-1]])
    offset = np.repeat(starts, sizes)
    whole = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return Trees(
        feature=whole["feature"].astype("int32"),
        threshold=whole["threshold"].astype("float32"),
        left=(whole["left"] + offset).astype("int32"),
        right=(whole["right"] + offset).astype("int32"),
        missing_left=whole["missing_left"].astype(bool),
        in_set=whole["in_set"].astype("int32"),
        sets=np.zeros((0, 1), bool) if sets is None else sets,
        value=whole["value"].astype("float32"),
        roots=starts.astype("int32"),
        base=np.asarray(base, "float32"),
        leaf=whole["leaf"].astype("int32"),
    )


def mean_of(several: Sequence[Trees]) -> Trees:
    """One forest that gives the mean of several over the same columns and outputs."""
    share = np.float32(1 / len(several))
    nodes = np.cumsum([0, *(len(one.left) for one in several[:-1])]).astype("int32")
    rows = np.cumsum([0, *(len(one.sets) for one in several[:-1])]).astype("int32")
    width = max(one.sets.shape[1] for one in several)
    moved = [
        replace(
            one,
            left=one.left + first,
            right=one.right + first,
            roots=one.roots + first,
            in_set=np.where(one.in_set == NO_SET, NO_SET, one.in_set + row),
            sets=_widened(one.sets, width),
            value=one.value * share,
        )
        for one, first, row in zip(several, nodes, rows, strict=True)
    ]
    arrays = [one.arrays() for one in moved]
    whole = {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}
    base = np.mean([one.base for one in several], axis=0, dtype="float64")
    whole |= {"base": base.astype("float32"), "in_set": whole["in_set"].astype("int32")}
    return Trees(**whole)


def _widened(sets: np.ndarray, width: int) -> np.ndarray:
    """Codes beyond the end of a set are what its last column says."""
    beyond = np.repeat(sets[:, -1:], width - sets.shape[1], axis=1)
    return np.concatenate([sets, beyond], axis=1)


def one_leaf(base: np.ndarray) -> Trees:
    """The same outputs for every row."""
    none = np.zeros(1, "int32")
    leaf = {
        "feature": none,
        "threshold": np.full(1, np.inf),
        "left": none,
        "right": none,
        "missing_left": none,
        "in_set": none + NO_SET,
        "value": np.zeros((1, len(base))),
        "leaf": none,
    }
    return joined([leaf], base)
