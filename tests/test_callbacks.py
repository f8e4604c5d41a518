"""What happens around an epoch, without training a real model."""

import csv

import keras
import numpy as np
import pytest

from kerastrain.config import ObjectiveConfig
from kerastrain.engine import Engine
from kerastrain.errors import ConfigError, DivergenceError
from kerastrain.evaluation import score
from kerastrain.events import recording
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows
from kerastrain.schema import Target
from kerastrain.training.history import HistoryFile
from kerastrain.training.stopping import BestWeights
from kerastrain.training.validation import StopOnNaN, Validate
from kerastrain.training.weights import Checkpoints


def tiny_model():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def play(values, model, callbacks, name="val_loss"):
    """An epoch per value; the bias of the model is the number of the epoch."""
    model.stop_training = False
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.layers[-1].bias.assign([float(epoch)])
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        for callback in callbacks:
            callback.on_epoch_end(epoch, {name: value})
        if model.stop_training:
            break
    for callback in callbacks:
        callback.on_train_end()
    return float(model.layers[-1].bias.numpy()[0])


@pytest.mark.parametrize(
    ("values", "mode", "patience", "expected"),
    [
        ([3, 2, 1], "min", 2, 2),
        ([1, 2, 3], "max", 2, 2),
        ([3, 1, 2, 2, 0], "min", 2, 1),  # stopped before the 0
        ([3, 1, 2, 2, 0], "min", None, 4),
        ([1, 1, 1], "min", 5, 0),
    ],
)
def test_training_ends_on_the_weights_of_the_best_epoch(
    values, mode, patience, expected
):
    best = BestWeights("val_loss", mode, patience)
    assert play(values, tiny_model(), [best]) == expected
    assert best.best_epoch == expected


def test_stopping_early_is_an_event():
    with recording() as recorder:
        play([1, 2, 3, 4], tiny_model(), [BestWeights("val_loss", "min", 2)])
    (event,) = recorder.events
    assert event.code == "stopped_early"
    assert "The weights are those of epoch 1." in event.message


def test_the_best_and_the_last_few_checkpoints_are_kept(tmp_path):
    best = BestWeights("val_loss", "min", None)
    model = tiny_model()
    keeper = Checkpoints(tmp_path, best, model, every=2, keep=2)
    play([5, 4, 6, 7, 8, 9, 9], model, [best, keeper])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "best.weights.h5",
        "epoch_00004.weights.h5",
        "epoch_00006.weights.h5",
    ]
    model.load_weights(tmp_path / "best.weights.h5")
    assert model.layers[-1].bias.numpy() == [1]


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    best = BestWeights("val_loss", "min", None)
    model = tiny_model()
    play([5], model, [best, Checkpoints(tmp_path, best, model, every=0, keep=1)])
    before = (tmp_path / "best.weights.h5").read_bytes()

    def half_written(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save_weights", half_written)
    with pytest.raises(OSError, match="disk full"):
        play([1], model, [best, Checkpoints(tmp_path, best, model, every=0, keep=1)])
    assert (tmp_path / "best.weights.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["best.weights.h5"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_loss_that_is_no_number_ends_training(name, value):
    with pytest.raises(DivergenceError, match=rf"^{name} became {value} in epoch 2\. "):
        play([1.0, value], tiny_model(), [StopOnNaN()], name)


def test_the_history_file_is_whole_after_every_epoch(tmp_path):
    path = tmp_path / "history.csv"
    history = HistoryFile(path)
    history.on_epoch_end(0, {"loss": 2.0})
    history.on_epoch_end(1, {"loss": 1.0, "val_loss": 3.0})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"epoch": "1", "loss": "2.0", "val_loss": ""},
        {"epoch": "2", "loss": "1.0", "val_loss": "3.0"},
    ]


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


def test_a_metric_that_is_not_defined_cannot_choose_the_best_epoch():
    message = r"^fit\.monitor: roc_auc is not defined on the validation rows"
    with pytest.raises(ConfigError, match=message):
        play([0.5], tiny_model(), [BestWeights("val_roc_auc", "max", 2)])
