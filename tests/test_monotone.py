"""Predictions that rise or fall with a column, which is called by its name."""

import numpy as np
import pandas as pd
import pytest

import kerastrain.estimators
from kerastrain.errors import ConfigError
from kerastrain.estimator import Setting
from kerastrain.features import NumberStatistics
from kerastrain.monotone import directions

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)
COLUMNS = {
    "income": ("income",),
    "city": (),
    "day": ("day.year", "day.month"),
    "debt": ("debt",),
}


@pytest.fixture(scope="module")
def frame():
    """A price that rises with income where noise does not hide it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "city": rng.choice(["Bonn", "Ulm", "Kiel"], 300),
            "age": rng.integers(18, 90, 300),
            "income": rng.normal(size=300),
        }
    )
    price = np.sin(3 * frame["income"]) + rng.normal(size=300)
    return frame, price.rename("price")


def setting(task="regression", **options):
    numbers = np.zeros((2, 4), "float32")
    statistics = NumberStatistics.of(numbers, np.arange(2))
    classes = {"regression": 0, "binary": 2, "multiclass": 3}[task]
    return Setting(task, classes, (5,), statistics, columns=COLUMNS, **options)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("HistGradientBoosting", 1),
        pytest.param("LightGBM", -1, marks=pytest.mark.slow),
        pytest.param("XGBoost", 1, marks=pytest.mark.slow),
        pytest.param("CatBoost", -1, marks=pytest.mark.slow),
    ],
)
def test_the_keras_model_rises_or_falls_with_the_column_named(frame, name, way):
    columns, price = frame
    make = getattr(kerastrain.estimators, name)
    model = make(rounds=20, monotone={"income": way}).fit(columns, price)
    rows = columns.head(20)
    steps = [
        model.predict(rows.assign(income=income))["prediction"]
        for income in np.linspace(-3, 3, 9)
    ]
    assert (way * np.diff(steps, axis=0) >= -1e-6).all()
    assert np.ptp(steps) > 0.01


@pytest.mark.parametrize(
    ("monotone", "places"),
    [
        ({"income": 1}, [1, 0, 0, 0, 0]),
        ({"debt": -1, "income": 1}, [1, 0, 0, -1, 0]),
        ({"day.month": 1}, [0, 0, 1, 0, 0]),
        ({3: 1}, [0, 0, 0, 1, 0]),
        ({"3": 1}, [0, 0, 0, 1, 0]),
        (None, [0, 0, 0, 0, 0]),
    ],
)
def test_a_column_is_found_by_its_name_or_its_place(monotone, places):
    assert directions(monotone, setting()) == places


@pytest.mark.parametrize(
    ("monotone", "message"),
    [
        ({"incom": 1}, "no column 'incom'. Did you mean 'income'\\? Columns of numb"),
        ({4: 1}, "no column 4. Columns of numbers: income, day.year, day.month, debt"),
        ({"city": 1}, "'city' is no number but codes.+--column city=numeric"),
        ({"day": 1}, "'day' became 2 numbers.+Name one: day.year, day.month"),
        ({"income": 2}, "column 'income' has 2; it takes 1"),
    ],
)
def test_a_column_that_cannot_be_kept_in_order_is_one_clear_line(monotone, message):
    with pytest.raises(ConfigError, match=message) as caught:
        directions(monotone, setting())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "loss", "message"),
    [
        ("multiclass", "cross_entropy", "more than two classes"),
        ("regression", "mae", "absolute error .+ take objective.loss mse or huber"),
    ],
)
def test_what_would_break_the_order_is_refused(task, loss, message):
    with pytest.raises(ConfigError, match=message):
        directions({"income": 1}, setting(task, loss=loss))
    assert not any(directions({"income": 0}, setting(task, loss=loss)))
