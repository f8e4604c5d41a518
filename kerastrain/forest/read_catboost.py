"""A model of CatBoost as `Trees`: the same leaf for every float32 row."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerastrain.errors import ConfigError
from kerastrain.forest.join import joined
from kerastrain.forest.trees import NO_SET, Trees

__all__ = ["read_catboost"]


def read_catboost(model: Any, vocabulary_sizes: Sequence[int] = ()) -> Trees:
    """The raw values of a `catboost.CatBoost` with symmetric trees.

    Args:
        vocabulary_sizes: number of codes of each categorical column, which holds codes
            from 0 on and is split as one-hot.

    Raises:
        ConfigError: trees that are not symmetric, or statistics of categories.
    """
    saved = _saved(model)
    if "oblivious_trees" not in saved:
        raise ConfigError(
            "This CatBoost model has trees that are not symmetric; train it with "
            "grow_policy='SymmetricTree'."
        )
    splits = _Splits(saved["features_info"], vocabulary_sizes)
    splits.find_codes(model, saved["oblivious_trees"])
    scale, base = saved["scale_and_bias"]
    parts = []
    for tree in saved["oblivious_trees"]:
        found = [splits.of(one) for one in tree["splits"] or []]
        leaves = np.array(tree["leaf_values"]).reshape(2 ** len(found), -1)
        parts.append(_tree(found, leaves * scale))
    return joined(parts, np.array(base), splits.sets())


def _saved(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        return json.loads(path.read_text())


class _Splits:
    """Splits of a saved model in the words of `Trees`.

    Args:
        info: of the columns, as CatBoost saves it.
        vocabulary_sizes: as `read_catboost` takes them.
    """

    def __init__(self, info: dict[str, Any], vocabulary_sizes: Sequence[int]):
        floats = info.get("float_features", [])
        self._numbers = {one["feature_index"]: one for one in floats}
        categories = info.get("categorical_features", [])
        self._places = {
            one["feature_index"]: one["flat_feature_index"] for one in categories
        }
        self._sizes = vocabulary_sizes
        self._codes: dict[tuple[int, int], int] = {}

    def find_codes(self, model: Any, trees: list[dict[str, Any]]) -> None:
        """The code behind each hash that the model splits on.

        The model keeps hashes of categories alone, so it is asked: a row for each code.
        """
        asked = [
            (number, depth, split["cat_feature_index"], split["value"])
            for number, tree in enumerate(trees)
            for depth, split in enumerate(tree["splits"] or [])
            if split["split_type"] == "OneHotFeature"
        ]
        if not asked:
            return
        codes = np.arange(max(self._sizes))
        leaves = model.calc_leaf_indexes(self._probe(model.feature_names_, codes))
        for number, depth, feature, value in asked:
            code = np.flatnonzero(leaves[:, number] >> depth & 1)
            self._codes[feature, value] = int(code[0])

    def _probe(self, names: list[str], codes: np.ndarray) -> pd.DataFrame:
        columns: dict[str, Any] = dict.fromkeys(names, np.zeros(len(codes), "float32"))
        for (_, flat), size in zip(self._places.items(), self._sizes, strict=True):
            columns[names[flat]] = np.minimum(codes, size - 1)
        return pd.DataFrame(columns)

    def of(self, split: dict[str, Any]) -> tuple[int, float, bool, int]:
        """Column, threshold, whether missing goes left, row of `sets` or -1."""
        kind = split["split_type"]
        if kind == "FloatFeature":
            number = self._numbers[split["float_feature_index"]]
            # "AsTrue" is above every border, the others below or not above any.
            missing_left = number["nan_value_treatment"] != "AsTrue"
            flat = number["flat_feature_index"]
            return flat, split["border"], missing_left, NO_SET
        if kind == "OneHotFeature":
            feature = split["cat_feature_index"]
            code = self._codes[feature, split["value"]]
            return self._places[feature], np.inf, True, code
        raise ConfigError(
            f"This CatBoost model has splits of the kind {kind}, on statistics of "
            "categories that no forest can hold; raise one_hot_max_size, or encode "
            "columns of many categories as numbers before the fit."
        )

    def sets(self) -> np.ndarray:
        """Row `code` has all others: what equals goes right."""
        num_codes = max(self._codes.values(), default=-1) + 1
        return ~np.eye(num_codes, num_codes + 1, dtype=bool)


def _tree(
    splits: list[tuple[int, float, bool, int]], leaves: np.ndarray
) -> dict[str, np.ndarray]:
    """A symmetric tree; its last split stands at the root.

    Bit i of the number of a leaf tells whether a row goes right at split i.
    """
    depth = len(splits)
    level = np.repeat(np.arange(depth), 2 ** np.arange(depth))
    feature, threshold, missing_left, in_set = (
        np.array([split[i] for split in reversed(splits)])[level] for i in range(4)
    )
    inner, num_leaves = len(level), len(leaves)
    here = np.arange(inner, inner + num_leaves)
    left = 2 * np.arange(inner) + 1
    whole: dict[str, np.ndarray] = {
        "feature": np.append(feature, np.zeros(num_leaves)),
        "threshold": np.append(threshold, np.full(num_leaves, np.inf)),
        "left": np.append(left, here),
        "right": np.append(left + 1, here),
        "missing_left": np.append(missing_left, np.zeros(num_leaves)),
        "in_set": np.append(in_set, np.full(num_leaves, NO_SET)),
        "value": np.vstack([np.zeros((inner, leaves.shape[1])), leaves]),
        "leaf": np.append(np.full(inner, -1), np.arange(num_leaves)),
    }
    return whole
