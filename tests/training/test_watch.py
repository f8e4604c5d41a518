"""Speed, waiting and memory of training, as a real fit shows them."""

import io
import time

import keras
import numpy as np
import pytest
from rich.console import Console

from kerastrain.progress import ConsoleProgress, Progress
from kerastrain.training import watch
from kerastrain.training.watch import Pace, Watch

NUM_ROWS, STEPS = 64, 8


class Told(Progress):
    """Keeps what it is told."""

    shows_steps = True

    def __init__(self):
        self.steps, self.epochs = [], []

    def on_step(self, done, total, figures=None):
        self.steps.append((done, total, figures))

    def on_epoch(self, epoch, epochs, logs, epoch_s):
        self.epochs.append((epoch, epochs, dict(logs), epoch_s))


class Waits(keras.callbacks.Callback):
    """Stands for an engine that waits half of the time, and for validation."""

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.004)
        self.model.waited_s += 0.002

    def on_epoch_end(self, epoch, logs=None):
        logs["epoch_s"] = 2.5


def fitted(progress, *, epochs=3, already=0, first_epoch=0, behind=()):
    """A fit of 8 steps an epoch, with `already` of them done."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.125), "mse")
    model.waited_s = 0.0
    model.optimizer.iterations.assign(already)
    num_left = STEPS - already % STEPS
    x = np.zeros((8 * num_left, 2))
    model.fit(
        x, x[:, 0], batch_size=8, epochs=epochs, initial_epoch=first_epoch, verbose=0,
        callbacks=[Waits(), Watch(progress, epochs, NUM_ROWS, STEPS), *behind],
    )  # fmt: skip
    return model


@pytest.fixture
def always_due(monkeypatch):
    monkeypatch.setattr(watch, "SHOWN_EVERY_S", 0.0)


def test_callbacks_behind_it_see_speed_waiting_and_memory():
    history = keras.callbacks.History()
    fitted(Told(), behind=[history])
    for epoch in range(3):
        step_ms = history.history["step_ms"][epoch]
        assert 4 < step_ms < 1000
        speed = history.history["rows_per_s"][epoch]
        assert speed == pytest.approx(8 / step_ms * 1000)
        waited = history.history["input_wait"][epoch]
        assert waited == pytest.approx(2 / step_ms, rel=0.01)
        assert 50 < history.history["memory_mb"][epoch] < 1e5


def test_compiling_does_not_count_as_the_time_of_a_step():
    history = keras.callbacks.History()
    compiles = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: time.sleep(1.0 if batch == 0 else 0)
    )
    fitted(Told(), epochs=1, behind=[compiles, history])
    assert history.history["step_ms"][0] < 130


def test_epochs_are_told_with_what_is_left(always_due):
    told = Told()
    fitted(told)
    assert [(epoch, epochs) for epoch, epochs, *_ in told.epochs] == [
        *[(1, 3), (2, 3), (3, 3)]
    ]
    assert {epoch_s for *_, epoch_s in told.epochs} == {2.5}
    left_s = [logs["left_s"] for _, _, logs, _ in told.epochs]
    assert min(left_s[:2]) > 8 * 0.004 > left_s[2] == 0
    assert "epoch_s" not in told.epochs[0][2]


def test_steps_are_told_with_all_figures(always_due):
    told = Told()
    fitted(told)
    assert [done for done, _, _ in told.steps] == [*range(1, 9)] * 3
    first, second = told.steps[0][2], told.steps[1][2]
    assert not {"left_s", "step_ms", "rows_per_s"} & first.keys()  # it compiled
    assert (second["epoch"], second["epochs"]) == (1, 3)
    assert second["learning_rate"] == 0.125 and second["loss"] == 0
    assert second["left_s"] == pytest.approx(22 * second["step_ms"] / 1000, rel=0.01)
    assert {"rows_per_s", "input_wait", "memory_mb"} <= second.keys()


def test_an_epoch_that_begins_in_the_middle_has_fewer_steps(always_due):
    told = Told()
    fitted(told, epochs=2, first_epoch=1, already=8 + 5)
    assert [done for done, *_ in told.steps] == [6, 7, 8]
    (_, _, logs, _) = told.epochs[0]
    assert logs["rows_per_s"] == pytest.approx(8 / logs["step_ms"] * 1000)


def test_a_log_file_costs_no_look_at_the_loss(monkeypatch):
    monkeypatch.setattr(Watch, "_in_progress", lambda *_: 1 / 0)
    file = io.StringIO()
    with ConsoleProgress(Console(file=file, width=100)) as progress:
        progress.on_stage("train")
        fitted(progress)
    first = file.getvalue().splitlines()[0]
    assert first.startswith("  epoch 1/3  loss 0 ") and "rows/s  wait " in first


def test_steps_that_were_taken_back_give_no_speed():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    pace = Pace(model)
    model.optimizer.iterations.assign(-3)
    pace.look()
    assert pace.figures() == {}
    model.optimizer.iterations.assign(2)
    pace.look()
    assert pace.figures().keys() == {"step_ms"}  # it does not tell how long it waited
