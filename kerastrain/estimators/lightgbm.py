"""Boosted trees of LightGBM."""

from collections.abc import Callable, Mapping
from typing import Any

import lightgbm
import numpy as np

from kerastrain.boosting import Boosting, Stop, given, rounds_that_fit
from kerastrain.estimator import Examples, Setting
from kerastrain.forest.read_lightgbm import read_lightgbm
from kerastrain.forest.trees import Trees
from kerastrain.monotone import directions

__all__ = ["LightGBM"]

_OBJECTIVES = {"mse": "regression", "mae": "regression_l1", "huber": "huber"}
_RARE = 0.01


class LightGBM(Boosting):
    """Trees grown leaf by leaf by LightGBM, with native gaps and categories.

    None is the tuned default of the task.

    Reference: Holzmüller et al. 2024 (RealMLP), appendix, LGBM-TD. DIFFERS: on few rows
    a leaf may have as little as a twentieth of them; with a class below 1 % of the rows
    the second derivatives of a leaf sum to 1 at least.

    Args:
        rounds: trees, or trees per class, at most.
        patience: rounds without a better validation loss before it stops; the best
            round is kept.
        learning_rate: factor of what a tree adds; None is 0.04, in a regression 0.05.
        max_leaves: of a tree; None is 50, in a regression 100.
        min_samples_leaf: rows in a leaf; None is 40, in a regression 3.
        subsample: share of the rows of a tree; None is 0.75, in a regression 0.7.
        parameters: further ones of the library by its own names; they win over those
            that are tuned.
        target_encoding: of a column of more codes than this the means of the target,
            out of fold for the train rows, stand beside the codes; None is
            of none.
        monotone: name of a column of numbers to 1, which makes the prediction rise
            with it, or -1, which makes it fall.
    """

    library_error = lightgbm.basic.LightGBMError

    def __init__(  # noqa: PLR0913  (its options)
        self,
        *,
        rounds: int = 1000,
        patience: int = 300,
        learning_rate: float | None = None,
        max_leaves: int | None = None,
        min_samples_leaf: int | None = None,
        subsample: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        target_encoding: int | None = 100,
        monotone: Mapping[str | int, int] | None = None,
    ):
        self.rounds = rounds
        self.patience = patience
        self.learning_rate = learning_rate
        self.max_leaves = max_leaves
        self.min_samples_leaf = min_samples_leaf
        self.subsample = subsample
        self.parameters = parameters
        self.target_encoding = target_encoding
        self.monotone = monotone

    def boost(
        self, train: Examples, validation: Examples, setting: Setting, stop: Stop
    ) -> Any:
        encoded = self.encode(train, setting, self.target_encoding)
        options = self._options(setting, train)
        leaves = options["num_leaves"]
        stop.rounds = rounds_that_fit(self.rounds, 2 * leaves - 1, setting)
        rows = lightgbm.Dataset(
            self.matrix(train.numbers, train.codes, encoded),
            train.targets,
            weight=train.weight,
            categorical_feature=np.flatnonzero(setting.is_code).tolist(),
            params=options,
        )
        beside = rows.create_valid(
            self.matrix(validation.numbers, validation.codes),
            validation.targets,
            weight=validation.weight,
        )
        booster = lightgbm.train(
            options,
            rows,
            stop.rounds,
            valid_sets=[beside] if len(validation) else [],
            callbacks=[_after_round(stop, options["learning_rate"])],
        )
        booster.best_iteration = stop.num_rounds
        return booster

    def _options(self, setting: Setting, train: Examples) -> dict[str, Any]:
        few = min(40, max(1, len(train) // 20))
        least_rows = given(self.min_samples_leaf, setting, few, 3)
        tuned = {
            "learning_rate": given(self.learning_rate, setting, 0.04, 0.05),
            "num_leaves": given(self.max_leaves, setting, 50, 100),
            "min_data_in_leaf": least_rows,
            "min_sum_hessian_in_leaf": 1.0 if _has_rare(setting, train) else 1e-7,
            "bagging_fraction": given(self.subsample, setting, 0.75, 0.7),
            "bagging_freq": 1,
            "alpha": 1.0,  # where the Huber loss turns linear
            "verbosity": -1,
        }
        fixed = {
            "objective": _OBJECTIVES.get(setting.loss, setting.task),
            "seed": setting.seed,
            "num_threads": setting.num_threads,
            "deterministic": True,
            "force_row_wise": True,
        }
        if setting.task == "multiclass":
            fixed["num_class"] = setting.num_classes
        ways = directions(self.monotone, setting) + [0] * self.num_means
        if any(ways):
            fixed["monotone_constraints"] = ways
        return tuned | dict(self.parameters or {}) | fixed

    def raw(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        matrix = self.matrix(numbers, codes)
        threads = self.setting_.num_threads
        return self.model_.predict(matrix, raw_score=True, num_threads=threads)

    def read(self) -> Trees:
        return read_lightgbm(self.model_)


def _has_rare(setting: Setting, train: Examples) -> bool:
    """Whether a class has so few rows that leaves without it would grow without end.

    Validation scores with 1e-7 / 1.0: eight classes, the rarest of 1 in 2,000, log loss
    0.403 / 0.325; abalone19, 1 in 130, ROC AUC 0.48 / 0.82; where no class is rare the
    first is better (digits, log loss 0.089 / 0.121).
    """
    if setting.task == "regression":
        return False
    shares = np.bincount(train.targets.astype("int64")) / max(1, len(train))
    return bool(shares.min() < _RARE)


def _after_round(stop: Stop, rate: float) -> Callable[[Any], None]:
    def after_round(env: Any) -> None:
        found, done = env.evaluation_result_list, env.iteration + 1
        if stop.after(done, found[0][2] if found else None):
            raise lightgbm.callback.EarlyStopException(stop.num_rounds - 1, found)
        raised = stop.paced(done, rate)
        if raised is not None:
            env.model.reset_parameter({"learning_rate": raised})

    return after_round
