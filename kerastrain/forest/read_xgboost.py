"""A booster of XGBoost as `Trees`: the same leaf for every row."""

import json
from typing import Any

import numpy as np

from kerastrain.errors import ConfigError
from kerastrain.forest.join import below32, column, in_ranges, joined
from kerastrain.forest.trees import NO_SET, Trees

__all__ = ["read_xgboost"]

_LOGIT = ("binary:logistic", "binary:logitraw", "reg:logistic")
_LOG = ("count:poisson", "reg:gamma", "reg:tweedie")


def read_xgboost(booster: Any) -> Trees:
    """The margins of an `xgboost.Booster`, of its best round if it knows one.

    Raises:
        ConfigError: a linear booster, or trees with vectors in their leaves.
    """
    best = booster.attr("best_iteration")
    if best is not None and int(best) + 1 < booster.num_boosted_rounds():
        booster = booster[: int(best) + 1]
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    model, drop = _model(learner["gradient_booster"])
    numbers = learner["learner_model_param"]
    outputs = max(1, int(numbers["num_class"]), int(numbers["num_target"]))
    sets: list[np.ndarray] = []
    parts = []
    for number, tree in enumerate(model["trees"]):
        part = _tree(tree, sets)
        part["value"] = part["value"] * drop[number] if drop else part["value"]
        part["value"] = column(part["value"], model["tree_info"][number], outputs)
        parts.append(part)
    base = _base(learner["objective"]["name"], numbers["base_score"], outputs)
    return joined(parts, base, in_ranges(sets, others=True))


def _model(booster: dict[str, Any]) -> tuple[dict[str, Any], list[float] | None]:
    """Trees and, of `dart`, the factor of each."""
    if booster["name"] == "gblinear":
        raise ConfigError(
            "An XGBoost model with booster='gblinear' has no trees; train it with "
            "booster='gbtree', or take a linear model."
        )
    drop = booster.get("weight_drop")
    model = booster.get("gbtree", booster)["model"]
    for tree in model["trees"]:
        if int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise ConfigError(
                "An XGBoost model with multi_strategy='multi_output_tree' has vectors "
                "in its leaves, which cannot be read; train it with "
                "multi_strategy='one_output_per_tree'."
            )
    return model, drop


def _base(objective: str, text: str, outputs: int) -> np.ndarray:
    """`base_score` as a margin: it is kept in the unit of the prediction."""
    score = np.atleast_1d(np.array(json.loads(text), "float64"))
    if objective in _LOGIT:
        score = np.log(score) - np.log1p(-score)
    elif objective in _LOG:
        score = np.log(score)
    return np.broadcast_to(score, (outputs,))


def _tree(tree: dict[str, Any], sets: list[np.ndarray]) -> dict[str, np.ndarray]:
    """One tree; its sets are added to `sets`."""
    left, right = (np.array(tree[f"{side}_children"]) for side in ("left", "right"))
    is_leaf, here = left < 0, np.arange(len(left))
    conditions = np.array(tree["split_conditions"], "float32")
    in_set = np.full(len(left), NO_SET)
    for node, start, size in zip(
        tree["categories_nodes"],
        tree["categories_segments"],
        tree["categories_sizes"],
        strict=True,
    ):
        codes = np.array(tree["categories"][start : start + size], "int64")
        is_left = np.ones(codes.max(initial=-1) + 1, bool)
        is_left[codes] = False  # what is in the set goes right, what is unknown left
        in_set[node] = len(sets)
        sets.append(is_left)
    compares = ~is_leaf & (in_set == NO_SET)
    return {
        "feature": np.where(is_leaf, 0, tree["split_indices"]),
        "threshold": np.where(compares, below32(conditions), np.float32(np.inf)),
        "left": np.where(is_leaf, here, left),
        "right": np.where(is_leaf, here, right),
        "missing_left": np.array(tree["default_left"], bool) & ~is_leaf,
        "in_set": in_set,
        "value": np.where(is_leaf, conditions, 0),
        "leaf": np.where(is_leaf, here, -1),
    }
