"""The learning-rate finder: what it suggests, and that it leaves nothing behind."""

import random

import keras
import numpy as np
import pytest

from kerastrain.blocks import Blocks
from kerastrain.config import AverageConfig
from kerastrain.engine import Average, Engine
from kerastrain.events import recording
from kerastrain.pipeline import Rows
from kerastrain.report.files import RunFiles
from kerastrain.report.learning import learning_figures
from kerastrain.schedules import Monitor, Steps
from kerastrain.schedules.curves import cosine
from kerastrain.training.finder import find_rate, smoothed, tenth_of_best

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")


def rows_of(num_rows, noise=0.1):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 4)).astype("float32")
    y = x @ [1, -1, 2, 0.5] + rng.normal(0, noise, num_rows)
    return Rows(
        {"x": x}, y.astype("float32"), np.ones(num_rows, "f4"), np.arange(num_rows)
    )


def made(num_rows=400, optimizer="Adam", batch_size=16, has_average=False, **noise):
    """An engine with dropout, its rate, and blocks."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(16, activation="relu")(inputs)
    x = keras.layers.Dropout(0.1)(keras.layers.BatchNormalization()(x))
    engine = Engine(inputs, keras.layers.Dense(1)(x))
    blocks = Blocks(rows_of(num_rows, **noise), batch_size, 8, seed=3)
    steps = Steps(10 * blocks.num_steps, blocks.num_steps)
    rate = cosine(1e-3, steps, Monitor("val_loss", "min")).learning_rate
    average = Average(AverageConfig(name="ema"), engine, 10) if has_average else None
    engine.prepare(
        getattr(keras.optimizers, optimizer)(rate),
        lambda y, z: keras.ops.square(keras.ops.cast(z[:, 0], "float32") - y),
        average=average,
    )
    return engine, blocks, rate


def fit(engine, blocks, epochs=1):
    blocks.epoch = 5
    data = engine.distributed(blocks)
    return engine.fit(data, epochs=epochs, verbose=0, shuffle=False).history["loss"]


def state_of(engine):
    """Bytes of every variable that there is."""
    found = [*engine.variables, *engine.optimizer.variables]
    found += engine.metrics_variables
    found += engine.average.variables if engine.average else []
    return [np.array(v.numpy()).tobytes() for v in found]


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_the_rate_is_well_below_where_the_loss_rises_again(optimizer):
    engine, blocks, rate = made(optimizer=optimizer)
    with recording() as recorder:
        curve = find_rate(engine, blocks, rate)
    least = curve.rates[int(np.argmin(curve.losses))]
    assert curve.suggested == pytest.approx(least / 10)
    assert 1e-4 < curve.suggested < 0.1
    np.testing.assert_allclose(curve.rates[:2], [1e-7, 1e-7 * 1e7 ** (1 / 99)], 1e-4)
    assert len(curve.rates) == len(curve.losses) <= 100
    (event,) = recorder.events
    assert (event.code, event.details["rate"]) == ("rate_found", curve.suggested)


@pytest.mark.parametrize("has_average", [False, True])
@pytest.mark.parametrize("has_begun", [False, True])
def test_the_finder_leaves_everything_as_it_was_to_the_last_bit(has_begun, has_average):
    engine, blocks, rate = made(has_average=has_average)
    if has_begun:
        fit(engine, blocks)
    before, blocks_before = state_of(engine), (blocks.epoch, blocks.steps_per_call)
    numpy_state, python_state = np.random.get_state()[1], random.getstate()
    find_rate(engine, blocks, rate, num_steps=30)
    assert state_of(engine) == before
    assert (blocks.epoch, blocks.steps_per_call) == blocks_before
    assert (np.random.get_state()[1] == numpy_state).all()
    assert random.getstate() == python_state


def test_training_after_the_finder_is_the_training_without_it():
    plain, blocks, _ = made()
    expected = fit(plain, blocks, epochs=2)
    engine, blocks, rate = made()
    find_rate(engine, blocks, rate, num_steps=30)
    assert fit(engine, blocks, epochs=2) == expected
    assert state_of(engine) == state_of(plain)


def test_a_new_peak_after_the_finder_counts():
    engine, blocks, rate = made()
    curve = find_rate(engine, blocks, rate)
    rate.peak = curve.suggested
    fit(engine, blocks)
    done = int(engine.optimizer.iterations.numpy())
    assert float(engine.optimizer.learning_rate) == float(rate(done))
    assert float(rate(done)) > 1e-3


def test_the_curve_ends_where_the_loss_is_no_longer_finite():
    engine, blocks, rate = made(optimizer="SGD")
    curve = find_rate(engine, blocks, rate, highest=1e30)
    assert len(curve.rates) < 100
    assert np.isfinite(curve.losses).all()
    assert np.isfinite(engine.get_weights()[0]).all()


def test_the_curve_ends_where_the_loss_is_four_times_the_least():
    engine, blocks, rate = made(optimizer="SGD")
    curve = find_rate(engine, blocks, rate, highest=100)
    assert len(curve.rates) < 100
    above = curve.losses > 4 * np.minimum.accumulate(curve.losses)
    assert [*np.flatnonzero(above)] == [len(curve.losses) - 1]


def test_a_loss_that_does_not_fall_gives_no_rate_and_is_said():
    engine, blocks, rate = made()
    with recording() as recorder:
        curve = find_rate(engine, blocks, rate, highest=1e-6)
    assert curve.suggested is None
    (event,) = recorder.events
    assert (event.code, event.severity) == ("rate_not_found", "warning")
    assert "in 100 steps of growing rate the loss did not fall" in event.message


@pytest.fixture
def float16():
    was = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(was)


def test_steps_whose_scaled_gradient_overflows_are_passed_over(float16):
    engine, blocks, rate = made()
    engine.optimizer.dynamic_scale.assign(2.0**30)
    curve = find_rate(engine, blocks, rate)
    assert 50 < len(curve.rates) < 95
    assert curve.rates[0] == pytest.approx(1e-7)
    assert curve.rates == sorted(set(curve.rates))
    assert float(engine.optimizer.dynamic_scale.numpy()) == 2.0**30


def test_the_average_is_right_from_the_first_loss_on():
    assert smoothed([2.0]) == [pytest.approx(2)]
    assert smoothed([3.0] * 20) == [pytest.approx(3)] * 20
    weights = 0.9 ** np.arange(5)[::-1]
    expected = np.average([5, 4, 3, 2, 1], weights=weights)
    assert smoothed([5, 4, 3, 2, 1])[-1] == pytest.approx(expected)


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_least_loss():
    rates = list(np.geomspace(1e-7, 1, 100))
    losses = [1 / (1 + (rate / 1e-3) ** 1.5) + rate for rate in rates]
    least = rates[int(np.argmin(losses))]
    assert tenth_of_best(rates, losses) == pytest.approx(least / 10)


@pytest.mark.parametrize(
    "losses", [[], [1.0] * 5, [2.0, 1.0] * 10, [1.0] * 100, [*np.linspace(1, 2, 100)]]
)
def test_a_short_or_flat_or_rising_curve_has_no_suggestion(losses):
    rates = list(np.geomspace(1e-7, 1, 100)[: len(losses)])
    assert tenth_of_best(rates, losses) is None


def test_noise_hardly_ever_has_a_suggestion():
    rng, rates = np.random.default_rng(0), list(np.geomspace(1e-7, 1, 100))
    noise = [smoothed(list(1 + rng.normal(0, 0.3, 100))) for _ in range(200)]
    found = [tenth_of_best(rates, losses) for losses in noise]
    assert sum(rate is not None for rate in found) < 20


def test_the_summary_is_json():
    engine, blocks, rate = made()
    curve = find_rate(engine, blocks, rate)
    summary = curve.summary()
    assert summary["points"][3] == [curve.rates[3], curve.losses[3]]
    assert summary["suggested"] == curve.suggested
    assert all(type(v) is float for point in summary["points"] for v in point)


def figures_with(curve):
    history = [{"epoch": 1.0, "loss": 1.0, "val_loss": 1.0}]
    metrics = {"task": "regression", "rate_curve": curve}
    files = RunFiles("x", {}, metrics=metrics, history=history)
    return {title: (said, made) for title, said, made in learning_figures(files)}


def test_the_report_draws_the_curve_and_marks_the_suggestion():
    points = [[1e-5, 2.0], [1e-3, 1.0], [1e-1, 3.0]]
    found = figures_with({"points": points, "suggested": 1e-3})
    said, made = found["Learning rate finder"]
    (trace,) = made["data"]
    assert (trace["x"], trace["y"]) == ([1e-5, 1e-3, 1e-1], [2.0, 1.0, 3.0])
    assert made["layout"]["xaxis"]["type"] == "log"
    assert made["layout"]["shapes"][0]["x0"] == 1e-3
    assert said.endswith("Dotted: 0.001, a tenth of where it is least.")


@pytest.mark.parametrize("curve", [None, {}, {"points": [], "suggested": None}])
def test_without_a_curve_there_is_no_such_figure(curve):
    assert "Learning rate finder" not in figures_with(curve)


def test_a_curve_without_a_suggestion_is_drawn_unmarked():
    found = figures_with({"points": [[1e-5, 2.0]], "suggested": None})
    assert "shapes" not in found["Learning rate finder"][1]["layout"]
