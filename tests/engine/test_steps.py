"""A step of the engine with its options, against plain NumPy in float64."""

import itertools

import keras
import numpy as np
import pytest

from kerastrain.blocks import Blocks
from kerastrain.config import AverageConfig, OptimizerConfig
from kerastrain.engine import Average, Clipping, Engine, RateFactors, make_optimizer
from kerastrain.errors import ConfigError
from kerastrain.pipeline import Rows

RATE, EPOCHS = 0.05, 2
LIMITS = {"none": {}, "norm": {"norm": 0.5}, "each": {"each_norm": 0.3}}
LIMITS |= {
    "value": {"value": 0.1},
    "all": {"value": 0.2, "each_norm": 0.3, "norm": 0.3},
}


def rows_of(num_rows, *, has_weights):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 4)).astype("float32")
    y = (x @ rng.normal(size=4) + 1).astype("float32")
    weight = rng.uniform(0.5, 2, num_rows).astype("float32")
    weight = weight if has_weights else np.ones(num_rows, "float32")
    return Rows({"x": x}, y, weight, np.arange(num_rows))


def squared(targets, outputs):
    return keras.ops.square(outputs[:, 0] - targets)


def clipped(gradients, value=None, each_norm=None, norm=None):
    if value is not None:
        gradients = [np.clip(g, -value, value) for g in gradients]
    if each_norm is not None:
        gradients = [g * min(1, each_norm / np.linalg.norm(g)) for g in gradients]
    if norm is not None:
        total = np.sqrt(sum((g**2).sum() for g in gradients))
        gradients = [g * min(1, norm / total) for g in gradients]
    return gradients


def by_hand(rows, blocks, limits, factors=(1, 1), momentum=None):
    """Weights of a linear model, and their moving average."""
    weights = [np.ones(4), np.zeros(1)]
    average, count = [w.copy() for w in weights], 0
    for epoch in range(EPOCHS):
        for step in blocks.steps(epoch):
            inputs, y, w = rows.take(step)
            error = inputs["x"].astype("float64") @ weights[0] + weights[1] - y
            slope = 2 * w * error / np.count_nonzero(w)
            gradients = [inputs["x"].T @ slope, slope.sum(keepdims=True)]
            gradients = clipped(gradients, **limits)
            pairs = zip(weights, gradients, factors, strict=True)
            weights = [w - RATE * f * g for w, g, f in pairs]
            count += 1
            m = min(momentum or 0, (1 + count) / (10 + count))
            average = [
                a + (1 - m) * (w - a) for a, w in zip(average, weights, strict=True)
            ]
    return weights, average


def trained(blocks, limits, *, accumulate=1, momentum=None, **settings):
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(1, kernel_initializer="ones", name="only")
    engine = Engine(inputs, layer(inputs))
    config = OptimizerConfig(name="sgd", weight_decay=0, **settings)
    average = None
    if momentum is not None:
        average = Average(AverageConfig(name="ema", momentum=momentum), engine, EPOCHS)
    engine.prepare(
        make_optimizer(config, RATE, engine.trainable_variables),
        squared,
        clipping=Clipping(**limits),
        accumulate=accumulate,
        factors=RateFactors(config, engine),
        average=average,
    )
    for blocks.epoch in range(EPOCHS):
        data = engine.distributed(blocks)
        if engine.factors is not None:
            engine.begin_epoch(blocks.epoch, blocks.num_blocks)
        engine.fit(data, verbose=0, shuffle=False)
    return engine, average


EVERY = [*itertools.product((1, 3, 8), LIMITS, (None, 0.9), (False, True), (64, 75))]
SOME = EVERY[::9]


@pytest.mark.parametrize(
    ("accumulate", "limit", "momentum", "has_weights", "num_rows"),
    [
        pytest.param(*case, marks=[] if case in SOME else pytest.mark.slow)
        for case in EVERY
    ],
)
def test_every_combination_is_what_numpy_computes(
    accumulate, limit, momentum, has_weights, num_rows
):
    rows = rows_of(num_rows, has_weights=has_weights)
    blocks = Blocks(rows, 16, 3, seed=1)
    engine, average = trained(
        blocks, LIMITS[limit], accumulate=accumulate, momentum=momentum
    )
    weights, averaged = by_hand(rows, blocks, LIMITS[limit], momentum=momentum)
    for found, expected in zip(engine.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-5)
    if average is not None:
        for variable, expected in zip(average.variables, averaged, strict=True):
            found = variable.numpy().ravel()
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"rates": {"*bias": 0.1}}, (1, 0.1)),
        ({"rates": {"only/kernel": 0}}, (0, 1)),
        ({"rates": {"*bias": 0.5, "only": 0.2}}, (0.2, 0.5)),  # the first that fits
        ({"layer_decay": 0.5}, (1, 1)),  # the last layer is not slowed down
    ],
)
def test_the_change_of_a_weight_is_multiplied(settings, factors):
    rows = rows_of(75, has_weights=True)
    blocks = Blocks(rows, 16, 3, seed=1)
    engine, _ = trained(blocks, {}, **settings)
    weights, _ = by_hand(rows, blocks, {}, factors)
    for found, expected in zip(engine.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-5)


def test_a_frozen_weight_keeps_every_bit_also_with_decay_and_adam():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="below")(inputs)
    engine = Engine(inputs, keras.layers.Dense(1, name="above")(hidden))
    config = OptimizerConfig(weight_decay=0.1, unfreeze={"below": 2})
    variables = engine.trainable_variables
    engine.prepare(
        make_optimizer(config, 0.01, variables),
        squared,
        factors=RateFactors(config, engine),
    )
    blocks = Blocks(rows_of(64, has_weights=False), 16, 3, seed=1)
    before = [v.numpy() for v in variables]

    def fit(blocks_epoch):
        blocks.epoch = blocks_epoch
        engine.begin_epoch(blocks_epoch, blocks.num_blocks)
        engine.fit(engine.distributed(blocks), verbose=0, shuffle=False)
        return [(v.numpy() == b).all() for v, b in zip(variables, before, strict=True)]

    assert fit(0) == [True, True, False, False]
    assert fit(1) == [False, False, False, False]


def test_layers_further_down_learn_more_slowly():
    inputs = x = keras.Input((4,))
    for i in range(3):
        x = keras.layers.Dense(4, name=f"layer_{i}")(x)
    engine = Engine(inputs, x)
    factors = RateFactors(OptimizerConfig(layer_decay=0.5), engine)
    assert factors.at(0) == [0.25, 0.25, 0.5, 0.5, 1, 1]
    assert factors.changing == [0, 1, 2, 3]


def test_decay_spares_what_is_named():
    inputs = keras.Input((4,))
    engine = Engine(inputs, keras.layers.Dense(1, name="spared")(inputs))
    config = OptimizerConfig(name="sgd", weight_decay=0.5, no_decay=["spared"])
    optimizer = make_optimizer(config, 0.1, engine.trainable_variables)
    engine.prepare(optimizer, lambda y, out: 0 * out[:, 0])
    before = engine.get_weights()[0]
    blocks = Blocks(rows_of(8, has_weights=False), 8, 1, seed=0)
    engine.fit(engine.distributed(blocks), verbose=0, shuffle=False)
    np.testing.assert_array_equal(engine.get_weights()[0], before)


@pytest.mark.parametrize("option", ["rates", "unfreeze", "no_decay"])
def test_a_pattern_that_fits_nothing_is_refused_with_the_layers_there_are(option):
    inputs = keras.Input((4,))
    engine = Engine(inputs, keras.layers.Dense(1, name="only")(inputs))
    value = ["tower*"] if option == "no_decay" else {"tower*": 2}
    config = OptimizerConfig(**{option: value})
    message = (
        rf"^optimizer\.{option}: no weight fits 'tower\*'\. Weights belong to: only\."
    )
    with pytest.raises(ConfigError, match=message):
        make_optimizer(config, 0.1, engine.trainable_variables)
        RateFactors(config, engine)


def test_statistics_of_a_plain_average_are_measured_again():
    from kerastrain.training.averaged import measure_statistics

    inputs = keras.Input((4,))
    norm = keras.layers.BatchNormalization()
    x = keras.layers.Dropout(0.5)(norm(inputs))
    engine = Engine(inputs, keras.layers.Dense(1)(x))
    engine.prepare(keras.optimizers.SGD(0.1), squared)
    rows = rows_of(64, has_weights=False)
    seeds = [v.numpy() for v in engine.non_trainable_variables if "seed" in v.path]
    measure_statistics(engine, Blocks(rows, 16, 3, seed=1))
    batches = [rows.take(step)[0]["x"] for step in Blocks(rows, 16, 3, seed=1).steps(0)]
    mean = np.mean([batch.mean(axis=0) for batch in batches], axis=0)
    variance = np.mean([batch.var(axis=0) for batch in batches], axis=0)
    np.testing.assert_allclose(norm.moving_mean.numpy(), mean, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance.numpy(), variance, rtol=1e-4)
    after = [v.numpy() for v in engine.non_trainable_variables if "seed" in v.path]
    assert seeds and all((a == b).all() for a, b in zip(seeds, after, strict=True))
    assert norm.momentum == 0.99
