"""The layers of RealMLP, each against NumPy."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from kerastrain.nets import realmlp_layers as layers
from kerastrain.nets.fading import FadingDropout, flat_cos

RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=(200, 3)).astype("float32")
CODES = RANDOM.integers(0, [4, 5, 20], (200, 3)).astype("int32")


@pytest.mark.parametrize(
    ("share", "factor"), [(0, 1), (0.5, 1), (0.75, 0.5), (1, 0), (1.1, 0)]
)
def test_the_curve_is_flat_and_then_a_cosine(share, factor):
    assert float(flat_cos(share)) == pytest.approx(factor, abs=1e-6)


def test_waves_of_numbers_are_those_of_numpy():
    layer = layers.PBLD(frequencies=5, width=3)
    got = layer(NUMBERS)
    frequency, phase, mix, shift = (v.numpy() for v in layer.weights)
    for column in range(3):
        x = NUMBERS[:, column : column + 1]
        waves = np.cos(2 * np.pi * x * frequency[column] + phase[column])
        expected = waves @ mix[column] + shift[column]
        np.testing.assert_allclose(
            got[:, 2 * column : 2 * column + 2], expected, atol=1e-5
        )
    np.testing.assert_array_equal(got[:, 6:], NUMBERS)
    assert np.abs(phase).max() <= math.pi
    assert np.abs(mix).max() <= 1 / math.sqrt(5)


def test_a_dense_layer_divides_by_the_root_of_its_inputs():
    layer = layers.NTKDense(7)
    layer.build((None, 3))
    layer.bias.assign(np.arange(7))
    expected = NUMBERS @ layer.kernel.numpy() / math.sqrt(3) + np.arange(7)
    np.testing.assert_allclose(layer(NUMBERS), expected, atol=1e-5)


def test_a_dense_layer_starts_with_unit_spread_and_biases_from_the_rows():
    layer = layers.NTKDense(500)
    x = np.hstack([NUMBERS * 9 + 4, np.full((200, 1), 3, "float32")])
    layer.build(x.shape)
    layer.initialise(x, None, np.random.default_rng(0))
    outputs = x @ layer.kernel.numpy() / 2
    np.testing.assert_allclose(outputs.std(axis=0), 1, atol=1e-3)
    bias = layer.bias.numpy()
    assert (bias <= -outputs.min(axis=0)).all() and (bias >= -outputs.max(axis=0)).all()
    # The mean of 5 rows with such weights has a third of the variance of one.
    spread = (bias + outputs.mean(axis=0)).std()
    assert spread == pytest.approx(math.sqrt(1 / 3), rel=0.1)


def test_an_output_that_is_always_the_same_stays_finite():
    layer = layers.NTKDense(2)
    layer.build((None, 1))
    layer.initialise(np.zeros((9, 1), "float32"), None, np.random.default_rng(0))
    assert all(np.isfinite(v.numpy()).all() for v in layer.weights)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("selu", lambda x: 1.0507010 * np.where(x > 0, x, 1.6732632 * np.expm1(x))),
    ],
)
def test_an_activation_bends_as_far_as_its_weight_says(name, function):
    layer = layers.ParametricActivation(name)
    np.testing.assert_allclose(layer(NUMBERS), function(NUMBERS), atol=1e-5)
    layer.bend.assign([0, 1, 0.5])
    expected = NUMBERS + [0, 1, 0.5] * (function(NUMBERS) - NUMBERS)
    np.testing.assert_allclose(layer(NUMBERS), expected, atol=1e-5)


def test_the_front_scale_multiplies_each_column():
    layer = layers.FrontScale()
    np.testing.assert_array_equal(layer(NUMBERS), NUMBERS)
    layer.scale.assign([1, 2, 0])
    np.testing.assert_array_equal(layer(NUMBERS), NUMBERS * np.float32([1, 2, 0]))


def test_small_categories_are_centred_scaled_and_clipped_indicators():
    layer = layers.SmallOneHot([4, 5, 2])
    codes = np.array([[2, 2, 0]] * 6 + [[3, 3, 0], [0, 4, 0], [1, 1, 0]], "int32")
    expected = np.array(
        [[1, 1, 0, 0, 0]] * 6 + [[-1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
        "float32",
    )
    np.testing.assert_allclose(
        layer(codes), expected / np.sqrt(1 + (expected / 3) ** 2), atol=1e-6
    )
    layer.initialise(codes, None, None)
    # Spread of the quartiles, else half the range: 6 of 9 are 1, so quartiles differ.
    np.testing.assert_allclose(layer.center, [1, 1, 0, 0, 0])
    np.testing.assert_allclose(layer.factor, [1, 1, 2, 2, 0])
    scaled = (expected - [1, 1, 0, 0, 0]) * [1, 1, 2, 2, 0]
    np.testing.assert_allclose(
        layer(codes), scaled / np.sqrt(1 + (scaled / 3) ** 2), atol=1e-6
    )


@pytest.mark.parametrize(("progress", "share"), [(None, 0.4), (0.25, 0.4), (0.75, 0.2)])
def test_dropout_fades_with_training_and_keeps_the_mean(progress, share):
    layer = FadingDropout(0.4)
    if progress is not None:
        layer.progress = lambda: tf.constant(progress)
    x = np.ones((400, 500), "float32")
    dropped = layer(x, training=True).numpy()
    assert (dropped == 0).mean() == pytest.approx(share, abs=0.01)
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    assert (layer(x, training=True).numpy() != dropped).any()
    np.testing.assert_array_equal(layer(x), x)


def test_dropout_of_everything_is_refused():
    with pytest.raises(ValueError, match="dropout must be from 0 to below 1, got 1"):
        FadingDropout(1)


def test_values_are_clamped_to_the_train_targets_but_not_in_training():
    layer = layers.Clamp()
    x = np.array([[-2e30], [0], [7]], "float32")
    np.testing.assert_array_equal(layer(x), x)
    layer.initialise(x, np.array([-1, 3.0]), None)
    np.testing.assert_array_equal(layer(x), [[-1], [0], [3]])
    np.testing.assert_array_equal(layer(x, training=True), x)


def test_small_parts():
    scores = np.array([[1, 3], [2, -2]], "float32")
    np.testing.assert_array_equal(layers.LogitOfTwo()(scores), [[2], [-4]])
    taken = layers.TakeColumns([2, 0])(CODES)
    assert taken.dtype == "int32"
    np.testing.assert_array_equal(taken, CODES[:, [2, 0]])


@pytest.mark.parametrize(
    "layer",
    [
        layers.PBLD(3, 2, sigma=0.5, rate=0.3),
        layers.SmallOneHot([4, 7]),
        layers.TakeColumns([1]),
        layers.FrontScale(rate=2.0),
        layers.NTKDense(4, bias_rate=0.5),
        layers.ParametricActivation("mish", rate=0.2),
        FadingDropout(0.3),
        layers.LogitOfTwo(),
        layers.Clamp(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_layer_gives_its_arguments_back_as_json(layer):
    config = json.loads(json.dumps(layer.get_config()))
    assert type(layer).from_config(config).get_config() == layer.get_config()
