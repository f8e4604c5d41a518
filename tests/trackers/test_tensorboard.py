"""What TensorBoard shows of a run, read back from its event files."""

import keras
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
        }
        tracker.on_epoch_end(epoch, logs)
    tracker.log_artifact("verdict", "fine")
    tracker.on_train_end()
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
    ],
)
def test_numbers_of_each_epoch_are_shown(events, tag, expected):
    shown = [(event.step, _number(event)) for event in events.Tensors(tag)]
    assert shown == [(1, pytest.approx(expected[0])), (2, pytest.approx(expected[1]))]


def _number(event):
    proto = event.tensor_proto
    import tensorflow as tf

    return float(tf.make_ndarray(proto))


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
