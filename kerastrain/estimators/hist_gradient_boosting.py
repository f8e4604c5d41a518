"""Histogram gradient boosting of scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from kerastrain.boosting import Boosting, Stop, rounds_that_fit
from kerastrain.estimator import Examples, Setting
from kerastrain.forest.read_sklearn import read_hist_boosting
from kerastrain.forest.trees import Trees
from kerastrain.monotone import directions
from kerastrain.sklearn_trees import grow, note_loss, openmp_threads

__all__ = ["HistGradientBoosting"]


class HistGradientBoosting(Boosting):
    """Boosted trees over binned columns, with native missing values and categories.

    A column of more codes than `max_bins` is taken as numbers. The loss is
    cross-entropy, squared or absolute error; the library has no Huber loss, the squared
    one stands for it.

    Args:
        rounds: at most.
        patience: rounds without a better validation loss before it stops; the best
            round is kept.
        learning_rate: factor of what a tree adds.
        max_leaves: of a tree; None is 15, and 31 from 10,000 train rows on.
        min_samples_leaf: rows in a leaf at least.
        l2: penalty on the square of what a leaf adds.
        max_features: share of the columns that are looked at for a split.
        max_bins: that a column of numbers is cut into, at most 255.
        target_encoding: of a column of more codes than this the means of the target,
            out of fold for the train rows, stand beside the codes; None is
            of none.
        monotone: name of a column of numbers to 1, which makes the prediction rise
            with it, or -1, which makes it fall.
    """

    library_error = ValueError

    def __init__(  # noqa: PLR0913  (its options)
        self,
        *,
        rounds: int = 1000,
        patience: int = 50,
        learning_rate: float = 0.05,
        max_leaves: int | None = None,
        min_samples_leaf: int = 8,
        l2: float = 1.0,
        max_features: float = 0.5,
        max_bins: int = 255,
        target_encoding: int | None = 100,
        monotone: Mapping[str | int, int] | None = None,
    ):
        self.rounds = rounds
        self.patience = patience
        self.learning_rate = learning_rate
        self.max_leaves = max_leaves
        self.min_samples_leaf = min_samples_leaf
        self.l2 = l2
        self.max_features = max_features
        self.max_bins = max_bins
        self.target_encoding = target_encoding
        self.monotone = monotone

    def boost(
        self, train: Examples, validation: Examples, setting: Setting, stop: Stop
    ) -> Any:
        note_loss(self, setting, "mse", "mae")
        leaves = self.max_leaves or (15 if len(train) < 10_000 else 31)
        has_validation = len(validation) > 0
        encoded = self.encode(train, setting, self.target_encoding)
        model = self._model(setting, leaves, has_validation)
        matrix = _without_empty(self.matrix(train.numbers, train.codes, encoded))
        beside = self._beside(validation)

        def fit(rounds: int) -> int:
            model.set_params(max_iter=rounds)
            model.fit(matrix, train.targets, train.weight, **beside)
            return int(model.n_iter_)

        most = rounds_that_fit(self.rounds, 2 * leaves, setting)
        with openmp_threads(setting.num_threads):
            stop.is_cut_short = grow(fit, most, first=3, seconds=setting.seconds)
        if has_validation:  # its first score is that of no round at all
            best = max(1, int(np.argmax(model.validation_score_)))
            del model._predictors[best:]
        stop.num_rounds = int(model.n_iter_)
        return model

    def _model(self, setting: Setting, leaves: int, has_validation: bool) -> Any:
        is_category = setting.is_code.copy()
        is_category[is_category] = np.array(setting.vocabulary_sizes) <= self.max_bins
        is_category = np.append(is_category, np.zeros(self.num_means, bool))
        ways = directions(self.monotone, setting) + [0] * self.num_means
        options: dict[str, Any] = dict(
            learning_rate=self.learning_rate,
            max_leaf_nodes=leaves,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2,
            max_features=self.max_features,
            max_bins=self.max_bins,
            categorical_features=is_category if is_category.any() else None,
            monotonic_cst=ways if any(ways) else None,
            early_stopping=has_validation,
            n_iter_no_change=self.patience,
            tol=0.0,
            warm_start=True,
            random_state=setting.seed,
        )
        if setting.task == "regression":
            loss = "absolute_error" if setting.loss == "mae" else "squared_error"
            return HistGradientBoostingRegressor(loss=loss, **options)
        return HistGradientBoostingClassifier(**options)

    def raw(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        matrix = self.matrix(numbers, codes)
        with openmp_threads(self.setting_.num_threads):
            if self.setting_.task == "regression":
                return self.model_.predict(matrix)
            return self.model_.decision_function(matrix)

    def _beside(self, validation: Examples) -> dict[str, Any]:
        if not len(validation):
            return {}
        return {
            "X_val": self.matrix(validation.numbers, validation.codes),
            "y_val": validation.targets,
            "sample_weight_val": validation.weight,
        }

    def read(self) -> Trees:
        return read_hist_boosting(self.model_)


def _without_empty(matrix: np.ndarray) -> np.ndarray:
    """Zeros for a column with hardly any value: the library cannot cut into bins what
    has no value among the 200,000 rows that it draws to find them."""
    is_empty = np.isnan(matrix).mean(axis=0) > 1 - 1e-4
    return np.where(is_empty, np.float32(0), matrix) if is_empty.any() else matrix
