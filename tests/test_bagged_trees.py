"""Forests of several folds as one."""

import numpy as np
import pytest

from kerastrain.boosting import bagged
from kerastrain.estimator import Examples, Setting
from kerastrain.estimators import ESTIMATORS
from kerastrain.features import NumberStatistics
from kerastrain.forest.join import mean_of

OPTIONS = {
    "lightgbm": {"rounds": 5},
    "xgboost": {"rounds": 5},
    "catboost": {"rounds": 5},
    "hist_gradient_boosting": {"rounds": 5},
    "random_forest": {"trees": 5},
    "gradient_boosting": {"rounds": 5},
}
random = np.random.default_rng(0)
NUMBERS = random.normal(size=(300, 3)).astype("float32")
NUMBERS[::7, 0] = np.nan
CODES = random.integers(0, 5, (300, 2)).astype("int32")
CLASSES = (NUMBERS[:, 1] > 0).astype("int32") + (CODES[:, 0] == 2)


def fitted(name, task, rows, codes=CODES):
    targets = NUMBERS[:, 1] if task == "regression" else CLASSES
    targets = targets.clip(0, 1) if task == "binary" else targets
    examples = Examples(NUMBERS[rows], codes[rows], targets[rows])
    num_classes = {"regression": 0, "binary": 2, "multiclass": 3}[task]
    setting = Setting(
        task,
        num_classes,
        tuple(int(n) for n in codes.max(axis=0) + 1),
        NumberStatistics.of(NUMBERS, np.arange(300)),
        loss="mse" if task == "regression" else "cross_entropy",
    )
    estimator = ESTIMATORS.load(name)(**OPTIONS[name])
    estimator.learn(examples, examples, setting)
    return estimator


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", OPTIONS)
def test_one_forest_gives_the_mean_over_the_folds(name, task):
    folds = [fitted(name, task, np.arange(part, 300, 2)) for part in (0, 1)]
    matrix = Examples(NUMBERS, CODES, CLASSES).matrix
    each = [one.trees_.outputs(matrix) for one in folds]
    whole = bagged(folds)
    np.testing.assert_allclose(
        whole.trees_.outputs(matrix), np.mean(each, axis=0), atol=1e-6
    )
    assert len(whole.trees_.roots) == sum(len(one.trees_.roots) for one in folds)


def test_sets_of_different_width_keep_what_is_beyond_them():
    few = fitted("xgboost", "multiclass", np.arange(0, 300, 2)).trees_
    many = CODES.copy()
    many[CODES[:, 0] == 2, 0] = 40
    more = fitted("xgboost", "multiclass", np.arange(1, 300, 2), codes=many).trees_
    assert few.sets.shape[1] != more.sets.shape[1]
    matrix = Examples(NUMBERS, many, CLASSES).matrix
    expected = (few.outputs(matrix) + more.outputs(matrix)) / 2
    np.testing.assert_allclose(
        mean_of([few, more]).outputs(matrix), expected, atol=1e-6
    )


def test_forests_for_other_classes_stay_apart():
    lacking = np.flatnonzero(CLASSES < 2)
    folds = [
        fitted("xgboost", "multiclass", rows) for rows in (lacking, np.arange(300))
    ]
    assert bagged(folds) is None


def test_means_of_a_target_are_those_of_a_fold_so_its_forests_stay_apart():
    many = CODES.copy()
    many[:, 0] = np.arange(300) % 60
    folds = [
        fitted("catboost", "binary", np.arange(part, 300, 2), codes=many)
        for part in (0, 1)
    ]
    assert bagged(folds) is None
