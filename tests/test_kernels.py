"""Layers of kernels, neighbours, densities and codes against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain.kernels import (
    LEAST_LOGIT,
    CodeWeights,
    GaussianLikelihood,
    Nearest,
    OneHot,
    PlaceClasses,
    RbfKernel,
    filled,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 3)).astype("float32")  # more than two chunks
STORED = RNG.normal(size=(40, 3)).astype("float32")
CODES = RNG.integers(0, [3, 5], (600, 2)).astype("int32")
DISTANCES = np.linalg.norm(X[:, None].astype("float64") - STORED, axis=-1)


def one_hot(codes, sizes):
    return np.hstack([np.eye(n)[codes[:, i]] for i, n in enumerate(sizes)])


def rbf():
    coefficients, bias = RNG.normal(size=(40, 2)), [0.5, -1.0]
    expected = np.exp(-0.7 * DISTANCES**2) @ coefficients + bias
    return RbfKernel(40, 2, 0.7), X, [STORED, coefficients, bias], expected


def nearest(weights):
    values, counts = RNG.normal(size=(40, 2)), RNG.uniform(1, 2, size=(40, 1))
    prior = np.array([0.25, 0.75, 1.0])
    expected = []
    for row in DISTANCES:
        near = np.argsort(row)[:7]
        of = counts[near, 0]
        if weights == "distance":
            of = of * np.sqrt((row[near[-1]] ** 2 + 0.01) / (row[near] ** 2 + 0.01))
        expected.append((of @ values[near] + prior[:2]) / (of.sum() + 1))
    given = [STORED, counts, values * counts, prior]
    return Nearest(40, 2, 7, weights), X, given, np.array(expected)


def gaussian():
    means, variances = RNG.normal(size=(4, 3)), RNG.uniform(0.01, 2, size=(4, 3))
    squares = (X[:, None] - means) ** 2 / variances
    logs = -0.5 * (squares + np.log(2 * np.pi * variances)).sum(-1)
    constants = -0.5 * np.log(2 * np.pi * variances).sum(-1)
    return GaussianLikelihood(4), X, [means, 1 / variances, constants], logs


def code_weights():
    table = RNG.normal(size=(8, 2))
    expected = one_hot(CODES, [3, 5]) @ table
    return CodeWeights([3, 5], 2), CODES, [table], expected


def hot():
    capped = np.where(CODES >= [3, 3], 1, CODES)
    return OneHot([3, 3], value=0.5), CODES, [], 0.5 * one_hot(capped, [3, 3])


def placed():
    logits = np.log(np.array([[0.2, 0.8], [0.5, 0.5]], "float32")) + 3
    least = np.full(2, LEAST_LOGIT)
    expected = np.stack([logits[:, 0] - 3, least, logits[:, 1] - 3], 1)
    return PlaceClasses([0, 2], 3), logits, [], expected


def placed_one():
    logits = np.array([[0.0], [2.0]], "float32")
    second = -np.log1p(np.exp(-logits[:, 0]))
    expected = np.stack([second - logits[:, 0], [LEAST_LOGIT] * 2, second], 1)
    return PlaceClasses([0, 2], 3), logits, [], expected


CASES = {
    "rbf": rbf,
    "nearest": lambda: nearest("uniform"),
    "nearest by distance": lambda: nearest("distance"),
    "gaussian": gaussian,
    "code weights": code_weights,
    "one hot": hot,
    "placed": placed,
    "placed, one logit": placed_one,
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_gives_what_numpy_gives_eagerly_in_a_graph_and_loaded(case, tmp_path):
    layer, x, weights, expected = CASES[case]()
    given = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(given, filled(layer, given, weights))
    np.testing.assert_allclose(model(x), expected, rtol=2e-5, atol=2e-5)
    assert model.output_shape == (None, *expected.shape[1:])
    assert not model.trainable_weights
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    spec = tf.TensorSpec((None, x.shape[1]), x.dtype)
    graph = tf.function(again, input_signature=[spec])
    for num_rows in (0, 1, len(x)):
        got = graph(x[:num_rows])
        np.testing.assert_allclose(got, expected[:num_rows], rtol=2e-5, atol=2e-5)


def test_placed_logits_of_two_classes_are_one():
    got = PlaceClasses([0, 1], 1)(np.array([[1.0, 4.0]], "float32"))
    assert got.numpy().tolist() == [[3.0]]


def test_rows_as_near_as_the_kth_all_count():
    layer = Nearest(3, 1, 1)
    rows = np.array([[1.0], [-1.0], [5.0]])
    values, counts = np.array([[2.0], [4.0], [9.0]]), np.ones((3, 1))
    given = keras.Input((1,))
    mean = keras.Model(given, filled(layer, given, [rows, counts, values, [0, 0]]))
    assert mean(np.zeros((1, 1), "float32")).numpy().tolist() == [[3.0]]
