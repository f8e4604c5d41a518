"""The learning rate at the start, after the warm-up and at the end."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from kerastrain.errors import ConfigError
from kerastrain.schedules import SCHEDULES, Monitor

RATE = 0.01
LOSS = Monitor("val_loss", "min")


def rates(name, total_steps, steps, **options):
    schedule = SCHEDULES.load(name)(RATE, total_steps, LOSS, **options)
    rate = schedule.learning_rate
    if isinstance(rate, float):
        return [rate for _ in steps]
    return [float(rate(step)) for step in steps]


@pytest.mark.parametrize(
    ("name", "options", "at"),
    [
        (
            "cosine",
            {},
            {0: RATE / 50, 25: RATE * 0.51, 50: RATE, 525: RATE / 2, 1000: 0},
        ),
        ("cosine", {"final": 0.1}, {50: RATE, 1000: RATE / 10, 2000: RATE / 10}),
        ("cosine", {"warmup": 0.0}, {0: RATE, 500: RATE / 2, 1000: 0}),
        ("constant", {}, {0: RATE / 50, 50: RATE, 1000: RATE}),
        ("constant", {"warmup": 0.0}, {0: RATE, 1000: RATE}),
        ("step", {}, {0: RATE, 499: RATE, 500: RATE / 10, 750: RATE / 100}),
        (
            "step",
            {"factor": 0.5, "at": [0.1]},
            {99: RATE, 100: RATE / 2, 999: RATE / 2},
        ),
        ("step", {"at": []}, {0: RATE, 999: RATE}),
        ("plateau", {}, {0: RATE, 1000: RATE}),
    ],
)
def test_the_rate_is_right_at_the_corners(name, options, at):
    got = rates(name, 1000, at, **options)
    np.testing.assert_allclose(got, list(at.values()), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total_steps", [1, 2, 7])
def test_every_schedule_works_in_a_very_short_run(name, total_steps):
    got = rates(name, total_steps, range(total_steps))
    assert all(0 < rate <= RATE * 1.0001 for rate in got)


# Keras 3.15 with NumPy 2 says so whenever a variable is read.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("values", "expected"), [([1, 1, 1], 0.3), ([3, 2, 1], 1.0)])
def test_plateau_lowers_the_rate_only_when_the_metric_stands_still(values, expected):
    schedule = SCHEDULES.load("plateau")(RATE, 100, LOSS, patience=2)
    (callback,) = schedule.callbacks
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule.learning_rate), "mse")
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_loss": value})
    assert float(model.optimizer.learning_rate) == pytest.approx(RATE * expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"warmup": 1.0}, "schedule.cosine.warmup: expected a share from 0"),
        ("cosine", {"final": -0.1}, "schedule.cosine.final: expected a share from 0"),
        (
            "constant",
            {"warmup": 2},
            "schedule.constant.warmup: expected a share from 0",
        ),
        ("step", {"at": [1.5]}, "schedule.step.at: expected a share from 0"),
        ("step", {"at": [0.7, 0.5]}, "schedule.step.at: expected growing shares"),
        ("step", {"factor": 0.0}, "schedule.step.factor: expected more than 0"),
        (
            "plateau",
            {"factor": 1.0},
            "schedule.plateau.factor: expected a share from 0",
        ),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        SCHEDULES.load(name)(RATE, 100, LOSS, **options)


def test_reading_the_table_imports_no_keras():
    code = (
        "import sys; from kerastrain.schedules import SCHEDULES; "
        "[(SCHEDULES.options(n), SCHEDULES.describe(n)) for n in SCHEDULES]; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
