"""Curves and surfaces that linear models are made of."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import Ridge as Library

from kerastrain.estimator import Examples, Setting
from kerastrain.estimators import ESTIMATORS
from kerastrain.features import NumberStatistics
from kerastrain.sklearn_linear import least_squares
from kerastrain.sklearn_splines import PairProducts, Splines, strongest_pairs

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)
rng = np.random.default_rng(0)
QUANTILES = np.stack([np.linspace(0, 8, 1001), np.repeat([0.0, 1.0], [500, 501])])
NUMBERS = np.stack(
    [rng.uniform(-2, 2, 1200), rng.uniform(-2, 2, 1200), rng.integers(0, 2, 1200)], 1
).astype("float32")


def learnt(name, target, task="regression", numbers=NUMBERS, **options):
    """Fitted on the first 900 rows; what it gives for the others, and these."""
    codes = np.zeros((len(numbers), 0), "int32")
    statistics = NumberStatistics.of(numbers, np.arange(900))
    classes = 2 * (task == "binary")
    setting = Setting(task, classes, (), statistics, "mse" if not classes else "")
    rows = Examples(numbers, codes, target)
    train, validation = rows.take(np.arange(900)), rows.take(np.arange(900, 1200))
    estimator = ESTIMATORS.load(name)(**options)
    estimator.learn(train, validation, setting)
    scores = estimator.scores(validation.numbers, validation.codes)
    return estimator, scores[:, 0], validation.targets


def test_a_number_is_its_place_in_every_bin_and_level_beyond_them():
    splines = Splines.of(QUANTILES, 4)
    got = splines(np.array([[3, 1], [-9, 0], [99, 1]], "float32"))
    # The second column has two values: a curve of it would be the number itself.
    np.testing.assert_allclose(got, [[1, 0.5, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    assert splines.width == 4


def test_a_surface_over_a_pair_is_made_of_products_that_add_up_to_one():
    splines = Splines.of(QUANTILES[:1].repeat(2, 0), 4)
    both = Splines(splines.edges, splines.coarse, ((0, 1),))
    rows = np.array([[3, 1], [-9, 0], [99, 1]], "float32")
    surface = np.asarray(both(rows))[:, splines.width :]
    assert surface.shape == (3, 49)
    np.testing.assert_allclose(surface.sum(axis=1), 0.3, rtol=1e-6)
    assert ((surface > 0).sum(axis=1) <= 4).all()


def test_the_layer_of_products_is_saved_with_its_pairs(tmp_path):
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, PairProducts([0, 1], [2, 2], 0.5)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    rows = rng.random((4, 3, 2)).astype("float32")
    np.testing.assert_array_equal(again(rows), model(rows))
    assert model.output_shape == (None, 18)


def test_the_pair_that_interacts_is_found():
    cells = rng.integers(0, 5, (2000, 4))
    residual = np.where(cells[:, 1] == cells[:, 3], 1.0, -0.25)[:, None]
    assert strongest_pairs(cells, residual, 1) == ((1, 3),)


@pytest.mark.parametrize("weight", [None, rng.uniform(0.5, 2, 200).astype("float32")])
def test_one_decomposition_gives_what_the_library_gives_for_each_penalty(weight):
    x = rng.normal(size=(200, 5)).astype("float32") + 3
    goal = (x @ rng.normal(size=(5, 2)) + 1).astype("float32")
    for model in least_squares(x, goal, weight, [0.1, 10.0]):
        expected = Library(alpha=model.alpha).fit(x, goal, weight)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-3)
        np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"bins": 0}, 0.9, 1.1),
        ({"pairs": 0}, 0.4, 0.6),
        ({}, 0.0, 0.05),
    ],
    ids=["straight", "curves", "surfaces"],
)
def test_a_curve_and_a_product_are_learnt_where_they_are_asked_for(
    options, least, most
):
    bent, together = np.abs(NUMBERS[:, 0]), NUMBERS[:, 0] * NUMBERS[:, 1]
    target = bent / bent.std() + together / together.std()
    target = ((target - target.mean()) / target.std()).astype("float32")
    _, scores, expected = learnt("ridge", target, **options)
    assert least <= np.mean((scores - expected) ** 2) <= most


def test_classes_that_lie_within_a_range_are_told_apart():
    is_inside = (np.abs(NUMBERS[:, 0]) < 1).astype("int32")
    _, scores, expected = learnt("logistic_regression", is_inside, "binary")
    assert ((scores > 0) == expected).mean() > 0.97


def test_numbers_of_two_values_have_no_curve():
    numbers = NUMBERS[:, 2:]
    target = (numbers[:, 0] * 2 - 1).astype("float32")
    estimator, scores, expected = learnt("ridge", target, numbers=numbers)
    assert estimator.inputs_.splines is None
    np.testing.assert_allclose(scores, expected, atol=0.01)
