"""Learners of other libraries. One class in one file here and a line in `ESTIMATORS`.

Reading this table costs no import of TensorFlow, nor of the library behind an entry.
The class names of its entries are attributes of this module, for direct use:
`kerastrain.estimators.LightGBM().fit(x, y)`; see `kerastrain.direct`.
"""

import importlib
from typing import Any

from kerastrain.errors import suggest
from kerastrain.registry import Registry

__all__ = ["ESTIMATORS"]

ESTIMATORS = Registry(
    "model",
    {
        "lightgbm": "kerastrain.estimators.lightgbm:LightGBM [boosting]",
        "xgboost": "kerastrain.estimators.xgboost:XGBoost [boosting]",
        "catboost": "kerastrain.estimators.catboost:CatBoost [boosting]",
        "random_forest": "kerastrain.estimators.random_forest:RandomForest",
        "extra_trees": "kerastrain.estimators.extra_trees:ExtraTrees",
        "gradient_boosting": (
            "kerastrain.estimators.gradient_boosting:GradientBoosting"
        ),
        "hist_gradient_boosting": (
            "kerastrain.estimators.hist_gradient_boosting:HistGradientBoosting"
        ),
        "logistic_regression": (
            "kerastrain.estimators.logistic_regression:LogisticRegression"
        ),
        "ridge": "kerastrain.estimators.ridge:Ridge",
        "elastic_net": "kerastrain.estimators.elastic_net:ElasticNet",
        "linear_svm": "kerastrain.estimators.linear_svm:LinearSvm",
        "svm": "kerastrain.estimators.svm:Svm",
        "nearest_neighbors": "kerastrain.estimators.nearest_neighbors:NearestNeighbors",
        "naive_bayes": "kerastrain.estimators.naive_bayes:NaiveBayes",
        "sklearn_mlp": "kerastrain.estimators.sklearn_mlp:SklearnMlp",
    },
)


def _direct_names() -> dict[str, str]:
    """Class name to entry."""
    targets = {entry: ESTIMATORS[entry].partition(":")[2] for entry in ESTIMATORS}
    return {target.partition(" ")[0]: entry for entry, target in targets.items()}


def __getattr__(name: str) -> Any:
    names = _direct_names()
    if name not in names:
        hint = "" if name.startswith("_") else f" {suggest(name, names)}".rstrip()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{hint}")
    return importlib.import_module("kerastrain.direct").direct(names[name])


def __dir__() -> list[str]:
    return [*__all__, *_direct_names()]
