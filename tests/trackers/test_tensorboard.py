"""What TensorBoard shows of a run, read back from its event files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator,
)

from kerastrain.trackers import tensorboard
from kerastrain.trackers.tensorboard import TensorBoard

CONFIG = {
    "target": "y",
    "data": ["a.csv"],
    "model": {"name": "mlp", "widths": [8, 4], "residual": False},
}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorboard")
    tracker = TensorBoard(folder, CONFIG, 4, histograms=True)
    tracker.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    tracker.on_train_begin()
    for epoch in range(2):
        logs = {
            "loss": 2.0 - epoch,
            "val_loss": 3.0,
            "val_roc_auc": 0.5,
            "learning_rate": 0.1,
            "epoch_s": 0.2,
            "rows_per_s": 640.0,
            "input_wait": 0.25,
            "memory_mb": 512.0,
        }
        tracker.on_epoch_end(epoch, logs)
    tracker.log_artifact("verdict", "fine")
    tracker.on_train_end()
    return read(folder)


def read(folder):
    accumulator = EventAccumulator(str(folder), {"tensors": 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("loss/train", [2, 1]),
        ("loss/validation", [3, 3]),
        ("roc_auc/validation", [0.5, 0.5]),
        ("learning_rate", [0.1, 0.1]),
        ("time/epoch_s", [0.2, 0.2]),
        ("time/step_ms", [50, 50]),
        ("time/rows_per_s", [640, 640]),
        ("time/input_wait", [0.25, 0.25]),
        ("memory/resident_mb", [512, 512]),
    ],
)
def test_numbers_of_each_epoch_are_shown(events, tag, expected):
    shown = [(event.step, _number(event)) for event in events.Tensors(tag)]
    assert shown == [(1, pytest.approx(expected[0])), (2, pytest.approx(expected[1]))]


def _number(event):
    return float(tf.make_ndarray(event.tensor_proto))


def test_the_configuration_is_shown_as_text(events):
    (event,) = events.Tensors("config")
    text = event.tensor_proto.string_val[0].decode()
    assert "    name: mlp" in text and "    target: y" in text
    (event,) = events.Tensors("verdict")
    assert event.tensor_proto.string_val == [b"fine"]


def test_plain_settings_are_hyper_parameters(events):
    content = events.SummaryMetadata("_hparams_/session_start_info")
    text = str(content.plugin_data.content)
    assert "model.name" in text and "model.widths" in text and "a.csv" not in text


def test_weights_are_shown_when_asked_for(events):
    assert any(tag.endswith("kernel") for tag in events.Tags()["tensors"])


class Engine(keras.Sequential):
    """Tells norms as our engine does."""

    waited_s = 0.0

    def gradient_norms(self):
        return {"dense/kernel": 3.0, "dense/bias": 4.0}


def fit(folder, *, first_epoch=0, already=0, epochs=2, norms=False):
    """Four steps an epoch; a point at every step."""
    kernel = keras.initializers.Constant(3.0)
    dense = keras.layers.Dense(1, kernel_initializer=kernel, name="dense")
    model = Engine([keras.Input((1,)), dense], name="engine")
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.optimizer.iterations.assign(already)
    tracker = TensorBoard(folder, CONFIG | {"watch": {"norms": norms}}, 4)
    x = np.zeros((4, 1))
    model.fit(
        x, x, batch_size=1, epochs=epochs, initial_epoch=first_epoch, verbose=0,
        callbacks=[tracker],
    )  # fmt: skip


def steps_of(accumulator, tag):
    return [event.step for event in accumulator.Tensors(tag)]


@pytest.fixture
def always_due(monkeypatch):
    monkeypatch.setattr(tensorboard, "POINT_EVERY_S", 0.0)


def test_points_over_the_steps_have_a_run_of_their_own(tmp_path, always_due):
    fit(tmp_path)
    steps = read(tmp_path / "steps")
    assert steps_of(steps, "steps/loss") == [*range(1, 9)]
    assert {"steps/learning_rate", "steps/input_wait", "steps/memory_mb"} <= {
        *steps.Tags()["tensors"]
    }
    assert steps_of(steps, "steps/step_ms") == [*range(2, 5), *range(5, 9)]
    assert steps_of(read(tmp_path), "loss/train") == [1, 2]


def test_points_over_the_steps_are_seldom(tmp_path):
    fit(tmp_path, epochs=20)
    assert len(steps_of(read(tmp_path / "steps"), "steps/loss")) < 10


@pytest.mark.parametrize("run", ["", "steps"])
def test_norms_of_each_layer_and_of_all_are_told_when_asked_for(
    tmp_path, always_due, run
):
    fit(tmp_path, norms=True)
    found = read(tmp_path / run)
    for tag, expected in (
        *[("gradient_norm/dense", 5), ("gradient_norm/global", 5)],
        *[("weight_norm/engine/dense", 3), ("weight_norm/global", 3)],
    ):
        assert {_number(event) for event in found.Tensors(tag)} == {expected}


def test_norms_cost_nothing_when_not_asked_for(tmp_path, always_due):
    fit(tmp_path)
    assert not [tag for tag in read(tmp_path).Tags()["tensors"] if "norm" in tag]


def test_a_run_that_goes_on_has_no_point_twice(tmp_path, always_due):
    fit(tmp_path, epochs=2)  # it was killed in epoch 2; its state is that of step 6
    fit(tmp_path, epochs=3, first_epoch=1, already=6)
    assert steps_of(read(tmp_path / "steps"), "steps/loss") == [*range(1, 15)]
    found = read(tmp_path)
    assert steps_of(found, "loss/train") == [1, 2, 3]
    assert len(found.Tensors("config")) == 1


def test_points_that_training_took_back_are_forgotten(tmp_path):
    axis = tensorboard._Axis(tmp_path)
    for step, value in ((1, 1.0), (2, 2.0), (3, 9.0), (2, 4.0), (3, 5.0)):
        axis.write(step, {"loss": value})
    axis.writer.close()
    found = [(event.step, _number(event)) for event in read(tmp_path).Tensors("loss")]
    assert found == [(1, 1.0), (2, 4.0), (3, 5.0)]
