"""Boosted trees of XGBoost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost

from kerastrain.boosting import Boosting, Stop, given, rounds_that_fit
from kerastrain.estimator import Examples, Setting
from kerastrain.forest.read_xgboost import read_xgboost
from kerastrain.forest.trees import Trees
from kerastrain.monotone import directions

__all__ = ["XGBoost"]

_OBJECTIVES = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "mse": "reg:squarederror",
    "mae": "reg:absoluteerror",
    "huber": "reg:pseudohubererror",
}


class XGBoost(Boosting):
    """Trees grown level by level by XGBoost, with native gaps and categories.

    None is the tuned default of the task. The Huber loss is the smooth one.

    Reference: Holzmüller et al. 2024 (RealMLP), appendix, XGB-TD.

    Args:
        rounds: trees, or trees per class, at most.
        patience: rounds without a better validation loss before it stops; the best
            round is kept.
        learning_rate: factor of what a tree adds; None is 0.08, in a regression 0.05.
        max_depth: of a tree; None is 6, in a regression 9.
        subsample: share of the rows of a tree; None is 0.65, in a regression 0.7.
        column_share: share of the columns that a level sees; None is 0.9, in a
            regression 1.
        parameters: further ones of the library by its own names; they win over those
            that are tuned.
        target_encoding: of a column of more codes than this the means of the target,
            out of fold for the train rows, stand in place of the codes; None is
            of none.
        monotone: name of a column of numbers to 1, which makes the prediction rise
            with it, or -1, which makes it fall.
    """

    library_error = xgboost.core.XGBoostError
    means_replace = True

    def __init__(  # noqa: PLR0913  (its options)
        self,
        *,
        rounds: int = 1000,
        patience: int = 300,
        learning_rate: float | None = None,
        max_depth: int | None = None,
        subsample: float | None = None,
        column_share: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        target_encoding: int | None = 100,
        monotone: Mapping[str | int, int] | None = None,
    ):
        self.rounds = rounds
        self.patience = patience
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.subsample = subsample
        self.column_share = column_share
        self.parameters = parameters
        self.target_encoding = target_encoding
        self.monotone = monotone

    def boost(
        self, train: Examples, validation: Examples, setting: Setting, stop: Stop
    ) -> Any:
        encoded = self.encode(train, setting, self.target_encoding)
        options = self._options(setting)
        depth = options["max_depth"]  # 0 is without a limit
        nodes = 2 * min(2**depth, len(train)) if depth > 0 else 2 * len(train)
        stop.rounds = rounds_that_fit(self.rounds, nodes, setting)
        beside = [(self._rows(validation), "validation")] if len(validation) else []
        booster = xgboost.train(
            options,
            self._rows(train, encoded),
            stop.rounds,
            evals=beside,
            verbose_eval=False,
            callbacks=[_AfterRound(stop, options["learning_rate"])],
        )
        return booster[: stop.num_rounds]

    def _options(self, setting: Setting) -> dict[str, Any]:
        kind = setting.loss if setting.task == "regression" else setting.task
        tuned = {
            "learning_rate": given(self.learning_rate, setting, 0.08, 0.05),
            "max_depth": given(self.max_depth, setting, 6, 9),
            "min_child_weight": given(None, setting, 5e-6, 2.0),
            "subsample": given(self.subsample, setting, 0.65, 0.7),
            "colsample_bylevel": given(self.column_share, setting, 0.9, 1.0),
            "reg_lambda": 0.0,
            "verbosity": 0,
        }
        fixed = {
            "objective": _OBJECTIVES[kind],
            "seed": setting.seed,
            "nthread": setting.num_threads,
        }
        if setting.task == "multiclass":
            fixed["num_class"] = setting.num_classes
        ways = directions(self.monotone, setting) + [0] * self.num_means
        if any(ways):
            fixed["monotone_constraints"] = tuple(ways)
        return tuned | dict(self.parameters or {}) | fixed

    def raw(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        rows = self._matrix(self.matrix(numbers, codes))
        return self.model_.predict(rows, output_margin=True)

    def _rows(
        self, examples: Examples, encoded: np.ndarray | None = None
    ) -> xgboost.DMatrix:
        matrix = self.matrix(examples.numbers, examples.codes, encoded)
        return self._matrix(matrix, label=examples.targets, weight=examples.weight)

    def _matrix(self, matrix: np.ndarray, **beside: Any) -> xgboost.DMatrix:
        setting = self.setting_
        kinds = np.where(setting.is_code, "c", "q").tolist()
        return xgboost.DMatrix(
            matrix,
            feature_types=kinds + ["q"] * self.num_means,
            enable_categorical=True,
            nthread=setting.num_threads,
            **beside,
        )

    def read(self) -> Trees:
        return read_xgboost(self.model_)


class _AfterRound(xgboost.callback.TrainingCallback):
    def __init__(self, stop: Stop, rate: float):
        super().__init__()
        self._stop, self._rate = stop, rate

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        losses = [loss for one in evals_log.values() for loss in one.values()]
        if self._stop.after(epoch + 1, losses[-1][-1] if losses else None):
            return True
        raised = self._stop.paced(epoch + 1, self._rate)
        if raised is not None:
            model.set_param("learning_rate", raised)
        return False
