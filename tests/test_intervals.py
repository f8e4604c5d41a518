"""Prediction intervals: they hold the truth as often as they say."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastrain.events import recording
from kerastrain.intervals import Intervals


def world(num_rows, *, grows=False, seed=0):
    """Predicted and true values; errors may grow with the value."""
    random = np.random.default_rng(seed)
    values = random.uniform(0, 10, num_rows)
    spread = 0.2 + 0.3 * values if grows else 1.0
    return values, values + spread * random.normal(size=num_rows)


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("num_rows", [50, 300, 3_000])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_new_rows_lie_inside_as_often_as_asked_for(grows, num_rows, coverage):
    found = []
    for seed in range(20):
        rows = world(num_rows, grows=grows, seed=seed)
        intervals = Intervals.fit(*rows, coverage=coverage)
        new = world(2_000, grows=grows, seed=seed + 100)
        found.append(intervals.measured(*new)["measured"])
    assert np.mean(found) == pytest.approx(coverage, abs=0.03)


def test_intervals_are_wider_where_errors_are_larger_and_narrower_on_the_whole():
    same, grown = (Intervals.fit(*world(2_000, grows=g)) for g in (False, True))
    assert len(same.width.x) == 1
    low, high = (grown.width(np.array([value]))[0] for value in (1, 9))
    assert high > 3 * low
    values, targets = world(2_000, grows=True)
    level = np.quantile(np.abs(values - targets), 0.9)
    assert grown.measured(values, targets)["mean_width"] < 0.9 * 2 * level


def test_a_quantile_of_few_rows_counts_the_new_row_too():
    targets = np.arange(9.0)
    found = Intervals.fit(np.zeros(9), targets)
    assert found.width.y == (8.0,)  # of 10 rows, 9 are not above the largest error
    assert Intervals.fit(np.zeros(9), targets, coverage=0.5).width.y == (4.0,)


def test_too_few_rows_are_told():
    with recording() as recorder:
        found = Intervals.fit(np.zeros(5), np.arange(5.0))
    assert found.width.y == (4.0,)
    warning, note = recorder.events
    assert warning.message.startswith(
        "Intervals that hold 90% of the true values need more than the 5 rows not "
        "trained on"
    )
    assert note.code == "intervals_fitted"


def test_rows_count_by_their_weight():
    values, targets = np.zeros(40), np.repeat([1.0, 9.0], 20)
    weight = np.repeat([1.0, 0.0], 20)
    assert Intervals.fit(values, targets, weight).width.y == (1.0,)
    measured = Intervals.fit(values, targets).measured(values, targets, weight)
    assert measured == {"coverage": 0.9, "measured": 1.0, "mean_width": 18.0}


def test_without_errors_intervals_have_no_width():
    values = np.linspace(0, 1, 500)
    lower, upper = Intervals.fit(values, values)(values)
    np.testing.assert_allclose(upper - lower, 0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(0, 99), st.floats(1e-6, 1e6))
def test_ends_are_finite_and_in_order_for_any_rows(num_rows, seed, scale):
    random = np.random.default_rng(seed)
    values = scale * random.choice([0.0, 1.0, *random.normal(size=8)], num_rows)
    targets = values + scale * random.standard_cauchy(num_rows)
    lower, upper = Intervals.fit(values, targets)(values)
    assert np.isfinite(lower).all()
    assert (lower <= upper).all()


@pytest.mark.parametrize("grows", [False, True])
def test_layers_and_numpy_agree_after_a_keras_file(grows, tmp_path):
    intervals = Intervals.fit(*world(1_000, grows=grows))
    tensor = keras.Input((), name="value")
    model = keras.Model(tensor, intervals.outputs(tensor))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    values = np.array([-1e30, -5, 0, 3.3, 9.99, 50, 1e30], "float32")
    for name, end in zip(("lower", "upper"), intervals(values), strict=True):
        for one in (model, again):
            assert one.output[name].shape == (None,)
            np.testing.assert_allclose(one(values)[name], end, rtol=1e-5, atol=1e-5)
