"""Gradient boosting of scikit-learn with exact splits."""

from typing import Any, Literal

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

from kerastrain.boosting import Boosting, Stop, rounds_that_fit
from kerastrain.estimator import Examples, Setting, matrix_of
from kerastrain.forest.read_sklearn import read_boosting
from kerastrain.forest.trees import Trees

__all__ = ["GradientBoosting"]

_LOSSES = {"mse": "squared_error", "mae": "absolute_error", "huber": "huber"}


class GradientBoosting(Boosting):
    """Boosted trees that try every split: for tables of up to some 10,000 rows.

    Codes are taken as numbers; a missing value counts as the median of its column. The
    loss is cross-entropy, squared, absolute or Huber error, the last with the
    library's own bend at the 90 % quantile of the errors.

    Args:
        rounds: at most.
        patience: rounds without a better validation loss before it stops; the best
            round is kept.
        learning_rate: factor of what a tree adds.
        max_depth: of a tree.
        min_samples_leaf: rows in a leaf at least.
        subsample: share of the rows, drawn for each tree.
        max_features: share of the columns that are looked at for a split.
    """

    library_error = ValueError

    def __init__(
        self,
        *,
        rounds: int = 1000,
        patience: int = 50,
        learning_rate: float = 0.05,
        max_depth: int = 5,
        min_samples_leaf: int = 5,
        subsample: float = 0.7,
        max_features: float | Literal["sqrt", "log2"] | None = 0.4,
    ):
        self.rounds = rounds
        self.patience = patience
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.subsample = subsample
        self.max_features = max_features

    def boost(
        self, train: Examples, validation: Examples, setting: Setting, stop: Stop
    ) -> Any:
        median = setting.statistics.median.astype("float32")
        self.fill_ = np.concatenate([median, np.zeros(train.codes.shape[1], "float32")])
        watch = _Watch(self._filled(validation.matrix), validation, setting, stop)
        model = self._model(setting)
        matrix = self._filled(train.matrix)
        model.fit(matrix, train.targets, train.weight, monitor=watch)
        model.estimators_ = model.estimators_[: stop.num_rounds]
        model.n_estimators_ = stop.num_rounds
        return model

    def _model(self, setting: Setting) -> Any:
        nodes = 2 ** (self.max_depth + 1)
        options = dict(
            n_estimators=rounds_that_fit(self.rounds, nodes, setting),
            learning_rate=self.learning_rate,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            subsample=self.subsample,
            max_features=self.max_features,
            random_state=setting.seed,
        )
        if setting.task == "regression":
            return GradientBoostingRegressor(loss=_LOSSES[setting.loss], **options)
        return GradientBoostingClassifier(**options)

    def _filled(self, matrix: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(matrix), self.fill_, matrix)

    def raw(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        matrix = self._filled(matrix_of(numbers, codes))
        if self.setting_.task == "regression":
            return self.model_.predict(matrix)
        return self.model_.decision_function(matrix)

    def read(self) -> Trees:
        return read_boosting(self.model_, self.fill_)


class _Watch:
    """Called after each round, says whether to stop.

    Args:
        matrix: columns of the validation rows, without missing values.
    """

    def __init__(
        self, matrix: np.ndarray, rows: Examples, setting: Setting, stop: Stop
    ):
        self.matrix, self.rows, self.setting, self.stop = matrix, rows, setting, stop
        self.scores: np.ndarray | None = None

    def __call__(self, round_: int, model: Any, _: Any) -> bool:
        loss = self._loss(self._after(round_, model)) if len(self.rows) else None
        return self.stop.after(round_ + 1, loss)

    def _after(self, round_: int, model: Any) -> np.ndarray:
        """Raw scores of the validation rows after a round, `(rows, outputs)`."""
        trees = model.estimators_[round_]
        added = np.stack([tree.predict(self.matrix) for tree in trees], axis=1)
        if self.scores is None:
            # Within a fit the library tells in no public way what it begins with.
            self.scores = model._raw_predict_init(self.matrix)
        self.scores = self.scores + model.learning_rate * added
        return self.scores

    def _loss(self, raw: np.ndarray) -> float:
        error = _errors(self.setting, raw, self.rows.targets)
        return float(np.average(error, weights=self.rows.weight))


def _errors(setting: Setting, raw: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Loss of each row, `(rows,)`."""
    if setting.task != "regression":
        if raw.shape[1] == 1:
            return np.logaddexp(0, raw[:, 0]) - targets * raw[:, 0]
        total = np.logaddexp.reduce(raw, axis=1)
        return total - raw[np.arange(len(raw)), targets]
    away = np.abs(raw[:, 0] - targets)
    if setting.loss == "mae":
        return away
    square = away**2 / 2
    return np.where(away < 1, square, away - 0.5) if setting.loss == "huber" else square
