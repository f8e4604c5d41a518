"""Forests of scikit-learn as `Trees`: the same leaf for every float32 row.

A boosted model gives its raw scores (logits, or values), a random forest the mean over
its trees: class shares, or values. Columns of the outputs are those of the library.
"""

from typing import Any

import numpy as np

from kerastrain.errors import DataError
from kerastrain.forest.join import column, floor32, joined
from kerastrain.forest.trees import NO_SET, Trees

__all__ = ["read_boosting", "read_forest", "read_hist_boosting"]


def read_forest(model: Any) -> Trees:
    """A fitted random forest or extra trees, classifier or regressor, of one target."""
    _of_one_target(model)
    share = 1 / len(model.estimators_)
    trees = [tree.tree_ for tree in model.estimators_]
    parts = [_plain_tree(tree, tree.value[:, 0, :] * share) for tree in trees]
    return joined(parts, np.zeros(trees[0].value.shape[2]))


def read_boosting(model: Any, fill: np.ndarray | None = None) -> Trees:
    """A fitted gradient boosting, which takes no missing values itself.

    Args:
        fill: `(columns,)`, what stands for a missing value of each column: NaN goes
            where that goes. None leaves NaN to the right of every split.
    """
    outputs = model.estimators_.shape[1]
    parts = []
    for tree, output in _in_rounds(model.estimators_):
        leaf_values = tree.tree_.value[:, 0, 0] * model.learning_rate
        part = _plain_tree(tree.tree_, column(leaf_values, output, outputs))
        if fill is not None:
            at_fill = np.asarray(fill, "float32")[part["feature"]]
            part["missing_left"] = at_fill <= part["threshold"]
        parts.append(part)
    return joined(parts, _start(model, outputs))


def read_hist_boosting(model: Any) -> Trees:
    """A fitted histogram gradient boosting, with the categories it splits natively.

    A category that no train row had goes where a missing value goes.

    Raises:
        DataError: categories that are not integers from 0 on.
    """
    outputs = model.n_trees_per_iteration_
    origin, categories = _origin(model)
    # One place more than the highest code: for all that are unknown beyond.
    width = max((known.max(initial=-1) for known in categories.values()), default=0) + 2
    parts: list[dict[str, np.ndarray]] = []
    sets: list[np.ndarray] = []
    for predictor, output in _in_rounds(model._predictors):
        nodes = predictor.nodes
        is_leaf = nodes["is_leaf"].astype(bool)
        part = _part(
            is_leaf,
            origin[nodes["feature_idx"]],
            nodes["num_threshold"],
            nodes["left"],
            nodes["right"],
        )
        part["missing_left"] = nodes["missing_go_to_left"].astype(bool)
        part["value"] = column(np.where(is_leaf, nodes["value"], 0), output, outputs)
        for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~is_leaf):
            known = categories[int(part["feature"][node])]
            bits = _bits(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
            part["in_set"][node] = len(sets)
            part["threshold"][node] = np.inf
            sets.append(np.full(width, part["missing_left"][node]))
            sets[-1][known] = bits[: len(known)]
        parts.append(part)
    base = np.ravel(model._baseline_prediction)
    return joined(parts, base, np.stack(sets) if sets else None)


# --- parts of a library's model ---------------------------------------------------


def _of_one_target(model: Any) -> None:
    if model.n_outputs_ != 1:
        raise DataError(
            f"{type(model).__name__} was fitted on {model.n_outputs_} targets; "
            "fit one model for each target."
        )


def _in_rounds(rounds: Any) -> list[tuple[Any, int]]:
    """Trees of a boosted model in order, each with the output that it adds to."""
    return [(tree, output) for row in rounds for output, tree in enumerate(row)]


def _start(model: Any, outputs: int) -> np.ndarray:
    """What a boosted model begins with: the score of one row less its trees."""
    row = np.zeros((1, model.n_features_in_), "float32")
    is_classifier = hasattr(model, "classes_")
    score = model.decision_function(row) if is_classifier else model.predict(row)
    start = np.array(score, "float64").reshape(outputs)
    for tree, output in _in_rounds(model.estimators_):
        start[output] -= model.learning_rate * tree.predict(row)[0]
    return start


def _origin(model: Any) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Column of the matrix behind each column that the trees split on, and the
    categories, in the library's order, of those that hold categories.

    The library moves columns of categories to the front.
    """
    if model.is_categorical_ is None:
        return np.arange(model.n_features_in_), {}
    first = np.flatnonzero(model.is_categorical_)
    encoder = model._preprocessor.named_transformers_["encoder"]
    categories = {
        one: _integers(one, found)
        for one, found in zip(first.tolist(), encoder.categories_, strict=True)
    }
    return np.concatenate([first, np.flatnonzero(~model.is_categorical_)]), categories


def _integers(place: int, categories: np.ndarray) -> np.ndarray:
    try:
        present = categories[~np.isnan(categories)]
        known = present.astype("int64")
        if ((known == present) & (known >= 0)).all():
            return known
    except TypeError:
        pass
    raise DataError(
        f"Column {place} has categories that are not integers from 0 on, such as "
        f"{categories[:1].tolist()[0]!r}; encode them as codes before the fit."
    )


def _bits(words: np.ndarray) -> np.ndarray:
    """Bits of eight 32-bit words, lowest first, bool `(256,)`."""
    return ((words[:, None] >> np.arange(32, dtype="uint32")) & 1).astype(bool).ravel()


# --- flat arrays ------------------------------------------------------------------


def _plain_tree(tree: Any, value: np.ndarray) -> dict[str, np.ndarray]:
    """One tree of `sklearn.tree`; `value` `(nodes, outputs)` counts in leaves only."""
    is_leaf = tree.children_left < 0
    part = _part(
        is_leaf, tree.feature, tree.threshold, tree.children_left, tree.children_right
    )
    part["missing_left"] = tree.missing_go_to_left.astype(bool)
    part["value"] = np.where(is_leaf[:, None], value, 0)
    return part


def _part(
    is_leaf: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
) -> dict[str, np.ndarray]:
    """Arrays of one tree, nodes counted from its root, without direction and value."""
    here = np.arange(len(is_leaf))
    return {
        "feature": np.where(is_leaf, 0, feature),
        "threshold": floor32(np.where(is_leaf, np.inf, threshold)),
        "left": np.where(is_leaf, here, left),
        "right": np.where(is_leaf, here, right),
        "in_set": np.full(len(is_leaf), NO_SET),
        "leaf": np.where(is_leaf, here, -1),
    }
