"""Activations computed again: the same numbers as when they are kept."""

import json
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.engine import Engine
from kerastrain.engine.remat import recomputed
from kerastrain.errors import ConfigError
from kerastrain.pipeline import Rows

layers = keras.layers
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(24, 6)).astype("float32")
CODES = RNG.integers(0, 5, (24, 4)).astype("int32")


def dropout_mlp():
    x = inputs = keras.Input((6,))
    for _ in range(4):
        x = layers.Dropout(0.3)(layers.Dense(12, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(1)(x))


def batch_norm_mlp():
    x = inputs = keras.Input((6,))
    for _ in range(4):
        x = layers.Dense(12, kernel_regularizer="l2", activity_regularizer="l2")(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(1)(x))


def residual_net():
    inputs = keras.Input((6,))
    x = layers.Dense(12)(inputs)
    for _ in range(3):
        y = layers.Dense(12)(layers.BatchNormalization()(x))
        x = x + layers.Dropout(0.2)(keras.ops.gelu(y))
    return keras.Model(inputs, layers.Dense(1)(x))


def attention():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 8, mask_zero=True)(inputs)
    for _ in range(2):
        y = layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dropout(0.1)(y)]))
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


def shared_layers():
    inputs = keras.Input((6,))
    dense, drop = layers.Dense(6), layers.Dropout(0.5)
    norm = layers.BatchNormalization()
    x = inputs
    for _ in range(3):
        x = drop(norm(dense(x)))
    return keras.Model(inputs, layers.Dense(1)(x))


def several_inputs():
    numbers, codes = keras.Input((6,)), keras.Input((4,), dtype="int32")
    code = layers.Flatten()(layers.Embedding(5, 3)(codes + 0))
    x = layers.Concatenate()([numbers, layers.Dropout(0.2)(code)])
    x = layers.Concatenate()([layers.Dense(8, activation="tanh")(x), numbers])
    return keras.Model([numbers, codes], layers.Dense(1)(x))


def nested_model():
    inputs = keras.Input((6,))
    x = layers.Dense(6)(batch_norm_mlp()(inputs))
    return keras.Model(inputs, layers.Dense(1)(dropout_mlp()(x)))


def frozen_layer():
    inputs = keras.Input((6,))
    norm = layers.BatchNormalization(trainable=False)
    x = layers.Dense(6)(norm(layers.Dense(6, trainable=False)(inputs)))
    return keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.2)(x)))


MODELS = [
    dropout_mlp,
    batch_norm_mlp,
    residual_net,
    attention,
    shared_layers,
    several_inputs,
    nested_model,
    frozen_layer,
]


def inputs_of(model):
    kinds = {"float32": NUMBERS, "int32": CODES}
    return [tf.constant(kinds[tensor.dtype]) for tensor in model.inputs]


def three_steps(build, num_segments, graph=True):
    """Loss, gradients and states after three steps; 0 segments is without."""
    keras.utils.set_random_seed(0)
    model = build()
    again = recomputed(model, num_segments) if num_segments != 0 else None
    inputs = keras.tree.pack_sequence_as(model.input, inputs_of(model))
    weights = model.trainable_weights

    def step():
        with tf.GradientTape() as tape:
            if again is None:
                outputs = model(inputs, training=True)
                losses = model.losses
            else:
                outputs, losses = again(inputs, training=True)
            loss = tf.reduce_mean(outputs**2) + sum(losses)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.assign_sub(0.1 * gradient)
        return loss, gradients

    function = tf.function(step) if graph else step
    for _ in range(3):
        loss, gradients = function()
    states = [v.numpy() for v in model.non_trainable_variables]
    return loss.numpy(), [g.numpy() for g in gradients], states


@pytest.mark.parametrize("num_segments", [None, 100])
@pytest.mark.parametrize("build", MODELS)
def test_loss_gradients_and_states_are_those_of_the_model(build, num_segments):
    loss, gradients, states = three_steps(build, 0)
    other_loss, other_gradients, other_states = three_steps(build, num_segments)
    assert other_loss == pytest.approx(loss, rel=1e-6)
    for one, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    for one, other in zip(states, other_states, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("build", [dropout_mlp, attention])
def test_it_is_the_same_without_a_compiled_function(build):
    one, other = three_steps(build, 0, graph=False), three_steps(build, 3, graph=False)
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
    np.testing.assert_allclose(one[1][0], other[1][0], rtol=1e-5, atol=1e-6)


def test_a_plain_net_has_the_very_same_gradients():
    for one, other in zip(
        three_steps(dropout_mlp, 0)[1], three_steps(dropout_mlp, None)[1], strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_it_follows_mixed_precision(precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        # Not compiled: the optimiser of graphs rounds to 16 bits in other places.
        one, other = (three_steps(residual_net, n, graph=False) for n in (0, 3))
    finally:
        keras.config.set_dtype_policy(before)
    assert one[0] == other[0]
    for plain, again in zip(one[1], other[1], strict=True):
        np.testing.assert_array_equal(again, plain)


class Counting(layers.Layer):
    """Every column, `times` times; counts its calls."""

    count = 0

    def __init__(self, times=1):
        super().__init__()
        self.times = times

    def call(self, x):
        self.count += 1
        return keras.ops.tile(x, (1, self.times))


def test_all_segments_but_the_last_run_twice():
    inputs = keras.Input((6,))
    first, last = Counting(), Counting()
    model = keras.Model(inputs, last(first(layers.Dense(2)(inputs))))
    first.count = last.count = 0
    with tf.GradientTape() as tape:
        outputs, _ = recomputed(model, 3)(tf.constant(NUMBERS))
    tape.gradient(outputs, model.trainable_weights)
    assert (first.count, last.count) == (2, 1)


def test_a_cut_moves_to_where_little_crosses():
    """Of six calls the third gives 64 numbers per row, the second only 2."""
    inputs = keras.Input((6,))
    wide = Counting(times=32)
    x = wide(layers.Dense(2)(layers.Dense(64)(inputs)))
    x = layers.Activation("relu")(layers.Activation("tanh")(x))
    model = keras.Model(inputs, layers.Dense(1)(x))
    wide.count = 0
    with tf.GradientTape() as tape:
        outputs, _ = recomputed(model, 2)(tf.constant(NUMBERS))
    tape.gradient(outputs, model.trainable_weights)
    assert wide.count == 1, "it belongs to the last segment"


class Noise(layers.Layer):
    """Draws from Keras' global generator."""

    def call(self, x):
        return x + keras.random.normal((1,))


def test_a_state_that_no_layer_owns_is_refused():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(1)(Noise(name="noise")(inputs)))
    with pytest.raises(
        ConfigError, match="fit.remat: the layer 'noise' changes a vari"
    ):
        recomputed(model)(tf.constant(NUMBERS))


# --- in the engine --------------------------------------------------------------


def fitted(remat, accumulate=1):
    keras.utils.set_random_seed(0)
    plain = residual_net()
    engine = Engine(plain.inputs, plain.outputs[0])
    loss = lambda y, outputs: tf.square(outputs[:, 0] - y)  # noqa: E731
    engine.prepare(
        keras.optimizers.Adam(0.01), loss, remat=remat, accumulate=accumulate
    )
    target = NUMBERS.sum(axis=1)
    rows = Rows({"x": NUMBERS}, target, np.ones(24, "float32"), np.arange(24))
    blocks = Blocks(rows, 8, 2, seed=0)
    history = engine.fit(blocks.dataset(), epochs=3, verbose=0, shuffle=False)
    return history.history["loss"], engine.get_weights()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_engine_trains_to_the_same_weights(accumulate):
    (losses, weights), (others, again) = (fitted(r, accumulate) for r in (False, True))
    np.testing.assert_allclose(others, losses, rtol=1e-5)
    for one, other in zip(weights, again, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


TWO_DEVICES = """
    import json, os
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    import keras, numpy as np
    from kerastrain.blocks import Blocks
    from kerastrain.config import RuntimeConfig
    from kerastrain.engine import Engine
    from kerastrain.pipeline import Rows
    from kerastrain.runtime import runtime

    x = np.random.default_rng(0).normal(size=(75, 6)).astype("float32")
    rows = Rows({"x": x}, x.sum(axis=1), np.ones(75, "float32"), np.arange(75))

    def curve(remat, dropout):
        with runtime(RuntimeConfig(strategy="mirrored"), seed=1) as devices:
            inputs = keras.Input((6,))
            x = keras.layers.Dense(12)(inputs)
            for _ in range(3):
                y = keras.layers.BatchNormalization(synchronized=True)(x)
                y = keras.layers.Dense(12, activation="relu")(y)
                x = x + keras.layers.Dropout(dropout)(y)
            engine = Engine(inputs, keras.layers.Dense(1)(x))
            loss = lambda y, out: keras.ops.square(out[:, 0] - y)
            engine.prepare(keras.optimizers.Adam(0.01), loss, remat=remat)
            blocks = Blocks(rows, 16, 3, seed=0, num_replicas=devices.num_replicas)
            history = engine.fit(
                engine.distributed(blocks), epochs=3, verbose=0, shuffle=False
            )
            states = [v.numpy().sum() for v in engine.non_trainable_variables]
            return {
                "replicas": devices.num_replicas,
                "loss": history.history["loss"],
                "weights": [float(abs(w).sum()) for w in engine.get_weights()],
                "states": [float(state) for state in states],
            }

    print(json.dumps([[curve(r, d) for r in (False, True)] for d in (0.0, 0.3)]))
"""


@pytest.mark.slow
def test_two_devices_train_the_same_with_it(run_python):
    for plain, again in json.loads(run_python(textwrap.dedent(TWO_DEVICES))):
        assert (plain.pop("replicas"), again.pop("replicas")) == (2, 2)
        for key, values in plain.items():
            np.testing.assert_allclose(again[key], values, rtol=1e-4, err_msg=key)
