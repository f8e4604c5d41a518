"""Which epoch is kept, and what ends training."""

import keras
import pytest

from kerastrain.errors import ConfigError
from kerastrain.events import recording
from kerastrain.training.stopping import BestWeights, TimeLimit
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


def test_a_metric_that_is_not_defined_cannot_choose_the_best_epoch():
    message = r"^fit\.monitor: roc_auc is not defined on the validation rows"
    with pytest.raises(ConfigError, match=message):
        play([0.5], tiny_model(), [BestWeights("val_roc_auc", "max", 2)])


@pytest.mark.parametrize(
    ("options", "values", "last"),
    [
        # 0.5 lower is needed; 2.8 is the best epoch but no reason to go on
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.7, 2.6], 2),
        ({"patience": 2, "min_delta": 0.0}, [3, 2.8, 2.7, 2.6], 3),
        ({"patience": 2, "baseline": 2.0}, [3, 2.9, 1.0], 1),
        ({"patience": 2, "baseline": 5.0}, [3, 2.9, 1.0], 2),
        ({"patience": None, "target": 2.5}, [3, 2.4, 1.0], 1),
        ({"patience": None, "target": None}, [3, 2.4, 1.0], 2),
    ],
)
def test_training_stops_when_it_has_done_enough(options, values, last):
    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.epoch = epoch

    seen = Seen()
    patience = options.pop("patience")
    play(
        values,
        tiny_model(),
        [BestWeights("val_loss", "min", patience, **options), seen],
    )
    assert seen.epoch == last


def test_a_target_that_is_reached_is_an_event():
    with recording() as recorder:
        best = BestWeights("val_auc", "max", None, target=0.9)
        play([0.5, 0.95, 0.99], tiny_model(), [best], "val_auc")
    (event,) = recorder.events
    assert event.code == "target_reached"
    assert event.message.startswith("Stopped after epoch 2: val_auc reached the target")


def test_patience_in_steps_counts_steps_and_not_epochs():
    model = tiny_model()
    model.compile(optimizer="sgd", loss="mse")
    seen = []

    class Steps(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            model.optimizer.iterations.assign((epoch + 1) * 40)  # of an epoch

        def on_epoch_end(self, epoch, logs=None):
            seen.append(epoch)

    best = BestWeights("val_loss", "min", "100 steps")
    play([3, 2, 2, 2, 2, 2], model, [Steps(), best])
    assert seen == [0, 1, 2, 3, 4]  # 120 steps after the best, in epoch 2


def test_the_last_weights_are_kept_where_that_is_asked_for():
    best = BestWeights("val_loss", "min", None, keeps_last=True)
    assert play([1, 2, 3], tiny_model(), [best]) == 2


def test_a_time_limit_ends_training_within_the_call_and_says_so():
    model = tiny_model()
    limit = TimeLimit(0.0)
    with recording() as recorder:
        limit.set_model(model)
        limit.on_train_begin()
        limit.on_epoch_begin(2)
        limit.on_train_batch_end(0)
        limit.on_train_batch_end(1)
    assert model.stop_training
    assert [event.code for event in recorder.events] == ["time_limit"]


def test_time_spent_before_a_crash_counts():
    limit = TimeLimit(1_000.0)
    limit.set_model(tiny_model())
    limit.on_train_begin()
    limit._spent_s = 1_001.0  # as a resume restores it
    limit.on_train_batch_end(0)
    assert limit.model.stop_training


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
