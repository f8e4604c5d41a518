"""Validation after an epoch gives the numbers of the evaluation."""

import keras
import numpy as np
import pytest

from kerastrain.config import ObjectiveConfig
from kerastrain.engine import Engine
from kerastrain.evaluation import score
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows
from kerastrain.schema import Target
from kerastrain.training.validation import Validate


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_validation_scores_are_those_of_the_evaluation(task):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype("float32")
    labels = {"binary": ["a", "b"], "multiclass": ["a", "b", "c"], "regression": []}
    targets = rng.integers(0, len(labels[task]) or 9, 60)
    targets = targets.astype("float64" if task == "regression" else "int32")
    target = Target(name="t", task=task, labels=labels[task])
    objective = Objective.of(target, ObjectiveConfig(), targets)
    inputs = keras.Input((3,))
    engine = Engine(inputs, objective.head(inputs))
    engine.prepare(keras.optimizers.SGD(0.25), objective.row_loss())
    weight = rng.uniform(0.5, 2, 60).astype("float32")
    rows = Rows({"x": x}, objective.encoded(targets), weight, np.arange(10, 60))
    watch = Validate(
        engine, rows, objective, targets[10:], weight=weight[10:], monitor="val_mcc"
    )
    logs = {}
    watch.on_epoch_begin(0)
    watch.on_epoch_end(0, logs)

    prediction = objective.outputs(engine.outputs_of(rows))
    scores = score(task, targets[10:], prediction, weight=weight[10:])
    for name in ("roc_auc", "accuracy", "rmse", "mae", "r2"):
        if name in scores and (task, name) != ("multiclass", "roc_auc"):
            assert logs[f"val_{name}"] == pytest.approx(scores[name])
    if task == "binary":
        assert logs["val_mcc"] == pytest.approx(scores["mcc"])
    assert ("val_mcc" in logs) == (task == "binary")
    if task == "regression":
        expected = (scores["rmse"] / objective.std) ** 2
    else:
        expected = scores["log_loss"]
    assert logs["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["learning_rate"] == 0.25 and logs["epoch_s"] > 0


def test_class_weights_count_in_the_loss_and_not_in_the_metrics():
    targets = np.array([0, 0, 0, 1], "int32")
    target = Target(name="t", task="binary", labels=["a", "b"])
    objective = Objective.of(target, ObjectiveConfig(), targets)
    inputs = keras.Input((1,))
    engine = Engine(inputs, keras.layers.Identity()(inputs))
    engine.prepare(keras.optimizers.SGD(0.25), objective.row_loss())
    x = np.full((4, 1), -2.0, "float32")  # "a" for every row
    weight = np.array([1, 1, 1, 9], "float32")
    rows = Rows({"x": x}, targets, weight, np.arange(4))
    watch = Validate(engine, rows, objective, targets)
    logs = {}
    watch.on_epoch_begin(0)
    watch.on_epoch_end(0, logs)
    assert logs["val_accuracy"] == 0.75
    assert logs["val_loss"] == pytest.approx(0.126928 + 2 * 9 / 12, rel=1e-5)
