"""Boosted trees of CatBoost."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import catboost
import numpy as np
import pandas as pd

from kerastrain.boosting import Boosting, Stop, given
from kerastrain.estimator import Examples, Setting
from kerastrain.forest.read_catboost import read_catboost
from kerastrain.forest.trees import Trees
from kerastrain.monotone import directions

__all__ = ["CatBoost"]

_LOSSES = {
    "binary": "Logloss",
    "multiclass": "MultiClass",
    "mse": "RMSE",
    "mae": "MAE",
    "huber": "Huber:delta=1.0",
}
# What CatBoost says where there is nothing to learn.
_UNLEARNABLE = ("constant or ignored", "targets are equal", "only one unique value")


class CatBoost(Boosting):
    """Symmetric trees of CatBoost, with native gaps and few categories one-hot.

    None is the tuned default of the task. Columns of more categories become means of
    the target, out of fold for the train rows: statistics that CatBoost itself would
    keep for them fit into no graph.

    Reference: Holzmüller et al. 2024 (RealMLP), appendix, CB-TD. DIFFERS: many
    categories, as said.

    Args:
        rounds: trees at most.
        patience: rounds without a better validation loss before it stops; the best
            round is kept.
        learning_rate: factor of what a tree adds; None is 0.08, in a regression 0.09.
        depth: of a tree; None is 7, in a regression 9.
        subsample: share of the rows that a tree sees.
        max_one_hot: codes of a column that is split as one-hot; None is 15, in a
            regression 20.
        parameters: further ones of the library by its own names; they win over those
            that are tuned.
        monotone: name of a column of numbers to 1, which makes the prediction rise
            with it, or -1, which makes it fall.
    """

    library_error = catboost.CatBoostError

    def __init__(
        self,
        *,
        rounds: int = 1000,
        patience: int = 300,
        learning_rate: float | None = None,
        depth: int | None = None,
        subsample: float = 0.9,
        max_one_hot: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        monotone: Mapping[str | int, int] | None = None,
    ):
        self.rounds = rounds
        self.patience = patience
        self.learning_rate = learning_rate
        self.depth = depth
        self.subsample = subsample
        self.max_one_hot = max_one_hot
        self.parameters = parameters
        self.monotone = monotone

    def boost(
        self, train: Examples, validation: Examples, setting: Setting, stop: Stop
    ) -> Any:
        encoded = self.encode(train, setting, self._max_one_hot(setting))
        sizes = np.array(setting.vocabulary_sizes, "int64")
        self.few_ = np.flatnonzero(sizes <= self._max_one_hot(setting))
        self.few_sizes_ = sizes[self.few_].tolist()
        rows = self._pool(train.numbers, train.codes, encoded, train)
        beside = None
        if len(validation):
            beside = self._pool(validation.numbers, validation.codes, None, validation)
        options = self._options(setting)
        watch = _AfterRound(stop, options["learning_rate"])
        model = _grown(options, rows, beside, watch)
        if watch.raised is not None:  # the rate of trees that grow stays as it is
            options["learning_rate"] = watch.raised
            model = _grown(options, rows, beside, _AfterRound(stop, watch.raised))
        if model is not None and stop.num_rounds < model.tree_count_:
            model.shrink(stop.num_rounds)
        return model

    def _options(self, setting: Setting) -> dict[str, Any]:
        kind = setting.loss if setting.task == "regression" else setting.task
        # The exact values of leaves under the absolute error need one step alone.
        steps = 1 if kind == "mae" else given(None, setting, 1, 20)
        tuned = {
            "learning_rate": given(self.learning_rate, setting, 0.08, 0.09),
            "depth": given(self.depth, setting, 7, 9),
            "bootstrap_type": "Bernoulli",
            "subsample": self.subsample,
            "l2_leaf_reg": 1e-5,
            "random_strength": given(None, setting, 0.8, 0.0),
            "leaf_estimation_iterations": steps,
            "border_count": 254,
            "boosting_type": "Plain",
            "logging_level": "Silent",
        }
        fixed: dict[str, Any] = {
            "loss_function": _LOSSES[kind],
            "iterations": self.rounds,
            "one_hot_max_size": max(2, self._max_one_hot(setting)),
            "use_best_model": False,  # `Stop` says which round is the best
            "random_seed": setting.seed,
            "thread_count": setting.num_threads,
            "allow_writing_files": False,
        }
        ways = directions(self.monotone, setting, keeps_absolute=True)
        if any(ways):
            named = {f"n{number}": way for number, way in enumerate(ways) if way}
            fixed["monotone_constraints"] = named
        return tuned | dict(self.parameters or {}) | fixed

    def _max_one_hot(self, setting: Setting) -> int:
        return given(self.max_one_hot, setting, 15, 20)

    # --- columns ------------------------------------------------------------------

    def _pool(
        self,
        numbers: np.ndarray,
        codes: np.ndarray,
        encoded: np.ndarray | None = None,
        rows: Examples | None = None,
    ) -> catboost.Pool:
        """Columns of numbers, of few codes, and of means, as the trees count them."""
        if encoded is None and self.means_ is not None:
            encoded = self.means_.numbers(codes)
        columns: dict[str, Any] = {f"n{i}": one for i, one in enumerate(numbers.T)}
        for i, size in zip(self.few_, self.few_sizes_, strict=True):
            columns[f"c{i}"] = pd.Categorical.from_codes(
                codes[:, i], categories=pd.RangeIndex(size)
            )
        if encoded is not None:
            columns |= {f"m{i}": one for i, one in enumerate(encoded.T)}
        return catboost.Pool(
            pd.DataFrame(columns),
            label=None if rows is None else rows.targets,
            weight=None if rows is None else rows.weight,
            cat_features=[f"c{i}" for i in self.few_],
        )

    # --- predictions --------------------------------------------------------------

    def raw(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return self.model_.predict(
            self._pool(numbers, codes),
            prediction_type="RawFormulaVal",
            thread_count=self.setting_.num_threads,
        )

    def read(self) -> Trees:
        trees = read_catboost(self.model_, self.few_sizes_)
        num_numbers = len(self.setting_.statistics.median)
        # All codes stand between numbers and means, where `columns` has them.
        num_codes = len(self.setting_.vocabulary_sizes)
        means = num_numbers + num_codes + np.arange(self.num_means)
        place = np.concatenate([np.arange(num_numbers), num_numbers + self.few_, means])
        return replace(trees, feature=place[trees.feature].astype("int32"))


def _grown(
    options: Mapping[str, Any],
    rows: catboost.Pool,
    beside: catboost.Pool | None,
    watch: "_AfterRound",
) -> catboost.CatBoost | None:
    """None where there is nothing to learn."""
    model = catboost.CatBoost(dict(options))
    try:
        model.fit(rows, eval_set=beside, callbacks=[watch])
    except catboost.CatBoostError as error:
        if any(text in str(error) for text in _UNLEARNABLE):
            return None
        raise
    return model


class _AfterRound:
    """What CatBoost asks after each round: whether to go on.

    Attributes:
        raised: the learning rate that the time asks for in place of this one.
    """

    def __init__(self, stop: Stop, rate: float):
        self._stop, self._rate = stop, rate
        self.raised: float | None = None

    def after_iteration(self, info: Any) -> bool:
        found = info.metrics.get("validation", {})
        losses = [history[-1] for history in found.values()]
        if self._stop.after(info.iteration, losses[0] if losses else None):
            return False
        self.raised = self._stop.paced(info.iteration, self._rate)
        return self.raised is None
