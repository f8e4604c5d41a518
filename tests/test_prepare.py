"""What a row counts in training."""

import re

import numpy as np
import pytest

from kerastrain.arrays import ArrayStore
from kerastrain.config import ObjectiveConfig
from kerastrain.errors import DataError
from kerastrain.ingest import Table
from kerastrain.objective import Objective
from kerastrain.prepare import _training_weight
from kerastrain.schema import Target


def weights_of(weight, train, **config):
    target = np.array([0, 0, 0, 1, 1, -1], "int32")
    table = Table(6, {}, {}, target, np.asarray(weight, "float32"))
    task = Target(name="t", task="binary", labels=["a", "b"])
    goal = Objective.of(task, ObjectiveConfig(**config), target[train])
    return _training_weight(table, goal, np.asarray(train), ArrayStore())


def test_train_rows_that_count_have_weight_1_on_average():
    weights = weights_of([0, 2, 6, 0, 4, 8], [0, 1, 2, 3])
    np.testing.assert_allclose(weights, [0, 0.5, 1.5, 0, 1, 2])
    assert weights.dtype == "float32"


def test_row_weights_and_class_weights_are_multiplied_once():
    weights = weights_of([1, 1, 3, 1, 1, 1], [0, 1, 2, 3], class_weights="balanced")
    assert weights[2] == pytest.approx(3 * weights[0])
    assert weights[3] == pytest.approx(3 * weights[0])


def test_train_rows_without_any_weight_are_refused():
    message = "Every train row has weight 0: there is nothing to learn from."
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        weights_of([0, 0, 1, 1, 1, 1], [0, 1])
