"""The training step: right on one device, and the same on two."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.config import OPTIMIZERS, OptimizerConfig
from kerastrain.engine import Clipping, Engine, make_optimizer
from kerastrain.errors import ConfigError
from kerastrain.pipeline import Rows


def rows_of(num_rows, num_columns=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, num_columns)).astype("float32")
    y = (x @ rng.normal(size=num_columns) + 1).astype("float32")
    weight = rng.uniform(0.5, 2, num_rows).astype("float32")
    return Rows({"x": x}, y, weight, np.arange(num_rows))


def squared(targets, outputs):
    return keras.ops.square(outputs[:, 0] - targets)


def engine_of(optimizer, clip_norm=None, layers=(), num_columns=4):
    inputs = keras.Input((num_columns,))
    x = inputs
    for layer in layers:
        x = layer(x)
    engine = Engine(inputs, keras.layers.Dense(1, kernel_initializer="ones")(x))
    return engine.prepare(optimizer, squared, clipping=Clipping(norm=clip_norm))


def fit(engine, blocks, epochs=1):
    losses = []
    for epoch in range(epochs):
        blocks.epoch = epoch
        history = engine.fit(engine.distributed(blocks), verbose=0, shuffle=False)
        losses.append(history.history["loss"][0])
    return losses


def by_hand(rows, steps, rate, clip_norm=None):
    """SGD on a linear model in NumPy, float64; returns kernel, bias, mean loss."""
    kernel, bias, loss_sum = np.ones(rows.inputs["x"].shape[1]), 0.0, 0.0
    for step in steps:
        inputs, y, w = rows.take(step)
        error = inputs["x"] @ kernel + bias - y
        loss_sum += (w * error**2).sum()
        slope = 2 * w * error / len(y)
        gradient = np.append(inputs["x"].T @ slope, slope.sum())
        if clip_norm is not None:
            gradient *= min(1, clip_norm / np.linalg.norm(gradient))
        kernel, bias = kernel - rate * gradient[:-1], bias - rate * gradient[-1]
    return kernel, bias, loss_sum / len(rows)


@pytest.mark.parametrize("steps_per_call", [1, 3, 32])
@pytest.mark.parametrize("num_rows", [64, 75])
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_an_epoch_is_plain_gradient_descent(num_rows, steps_per_call, clip_norm):
    rows = rows_of(num_rows)
    engine = engine_of(keras.optimizers.SGD(0.05), clip_norm)
    blocks = Blocks(rows, 16, steps_per_call, seed=3)
    loss = fit(engine, blocks)[0]
    kernel, bias, expected = by_hand(rows, blocks.steps(0), 0.05, clip_norm)
    np.testing.assert_allclose(engine.get_weights()[0][:, 0], kernel, rtol=1e-4)
    np.testing.assert_allclose(engine.get_weights()[1], bias, rtol=1e-4)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_optimizer_counts_steps_and_not_calls():
    engine = engine_of(keras.optimizers.SGD(0.01))
    fit(engine, Blocks(rows_of(75), 16, 32, seed=0), epochs=2)
    assert int(engine.optimizer.iterations) == 2 * 5


def test_rows_of_weight_zero_change_nothing():
    rows = rows_of(48)
    padded = Rows(
        {"x": np.concatenate([rows.inputs["x"], np.full((16, 4), 1e6, "float32")])},
        np.concatenate([rows.target, np.zeros(16, "float32")]),
        np.concatenate([rows.weight, np.zeros(16, "float32")]),
        np.arange(64),
    )
    results = []
    for part in (rows, padded):
        engine = engine_of(keras.optimizers.SGD(0.01))
        losses = fit(engine, Blocks(part, len(part), 1, seed=0))
        results.append((losses[0], engine.get_weights()[0]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


def test_losses_of_layers_are_part_of_what_is_minimised():
    heavy = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(10.0))
    engine = engine_of(keras.optimizers.SGD(0.01), layers=[heavy])
    before = np.abs(heavy.kernel.numpy()).sum()
    fit(engine, Blocks(rows_of(640), 64, 4, seed=0), epochs=3)
    assert np.abs(heavy.kernel.numpy()).sum() < 0.5 * before


@pytest.mark.parametrize("name", ["adam", "adagrad", "rmsprop", "sgd"])
def test_repeated_embedding_rows_train_like_a_dense_matrix(name):
    """Keras' own step hands Adam the slices unsummed; see engine.Engine._apply."""
    codes = np.random.default_rng(0).integers(0, 3, (64, 1)).astype("int32")
    target = codes[:, 0].astype("float32")
    one_hot = np.eye(3, dtype="float32")[codes[:, 0]]
    table = np.array([[0.1], [0.2], [0.3]], "float32")

    def trained(inputs, layer, x):
        out = keras.layers.Reshape((1,))(layer(inputs))
        engine = Engine(inputs, out)
        optimizer = make_optimizer(
            OptimizerConfig(name=name, weight_decay=0), 0.05, engine.trainable_variables
        )
        engine.prepare(optimizer, squared)
        rows = Rows({"x": x}, target, np.ones(64, "float32"), np.arange(64))
        fit(engine, Blocks(rows, 16, 2, seed=0), epochs=2)
        return layer.get_weights()[0]

    embedding = keras.layers.Embedding(3, 1, embeddings_initializer=_given(table))
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer=_given(table))
    np.testing.assert_allclose(
        trained(keras.Input((1,), dtype="int32"), embedding, codes),
        trained(keras.Input((3,)), dense, one_hot),
        rtol=1e-5,
    )


def _given(values):
    return lambda shape, dtype=None: tf.constant(values, dtype)


def test_weight_decay_spares_biases_and_norms():
    norm = keras.layers.LayerNormalization()
    inputs = keras.Input((4,))
    engine = Engine(inputs, keras.layers.Dense(1)(norm(inputs)))
    config = OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(config, 0.1, engine.trainable_variables)
    engine.prepare(optimizer, lambda y, out: 0 * out[:, 0])
    kernel = engine.trainable_variables[-2].numpy()
    fit(engine, Blocks(rows_of(8), 8, 1, seed=0))
    np.testing.assert_allclose(norm.gamma.numpy(), np.ones(4))
    after = engine.trainable_variables[-2].numpy()
    np.testing.assert_allclose(after, 0.95 * kernel, rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_named_optimizer_is_one_of_keras_and_trains(name):
    engine = engine_of(keras.optimizers.SGD())
    config = OptimizerConfig(name=name)
    optimizer = make_optimizer(config, 1e-3, engine.trainable_variables)
    engine.prepare(optimizer, squared)
    before = engine.get_weights()[0].copy()
    fit(engine, Blocks(rows_of(64), 32, 2, seed=0))
    assert np.isfinite(engine.get_weights()[0]).all()
    assert (engine.get_weights()[0] != before).any()


def test_the_list_of_optimizers_is_that_of_keras():
    kinds = {
        name.lower()
        for name in dir(keras.optimizers)
        if isinstance(getattr(keras.optimizers, name), type)
        and issubclass(getattr(keras.optimizers, name), keras.optimizers.Optimizer)
    }
    wrappers = {"optimizer", "lossscaleoptimizer", "multioptimizer"}
    assert set(OPTIMIZERS) == kinds - wrappers


def test_a_value_that_an_optimizer_refuses_is_told():
    config = OptimizerConfig(name="sgd", momentum=7.0)
    with pytest.raises(ConfigError, match="optimizer sgd: .*momentum"):
        make_optimizer(config, 1e-3, [])


TWO_DEVICES = """
    import json, os, sys
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    import keras, numpy as np
    from kerastrain.training.validation import Validate
    from kerastrain.config import ObjectiveConfig, OptimizerConfig, RuntimeConfig
    from kerastrain.objective import Objective
    from kerastrain.engine import Clipping, Engine, make_optimizer
    from kerastrain.blocks import Blocks
    from kerastrain.pipeline import Rows
    from kerastrain.runtime import runtime

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, (225, 2)).astype("int32")
    numbers = rng.normal(size=(225, 4)).astype("float32")
    y = (numbers[:, 0] + codes[:, 0]).astype("float32")
    weight = rng.uniform(0.5, 2, 225).astype("float32")
    rows = Rows({"c": codes, "n": numbers}, y, weight, np.arange(225))

    def curve(strategy, precision):
        config = RuntimeConfig(strategy=strategy, precision=precision)
        with runtime(config, seed=1) as devices:
            inputs = [keras.Input((2,), dtype="int32"), keras.Input((4,))]
            vectors = keras.layers.Flatten()(keras.layers.Embedding(5, 3)(inputs[0]))
            x = keras.layers.Concatenate()([vectors, inputs[1]])
            x = keras.layers.Dense(16)(x)
            x = keras.layers.BatchNormalization(synchronized=True)(x)
            x = keras.layers.Activation("relu")(x)
            engine = Engine(inputs, keras.layers.Dense(1, dtype="float32")(x))
            variables = engine.trainable_variables
            optimizer = make_optimizer(OptimizerConfig(), 0.01, variables)
            loss = lambda y, out: keras.ops.square(out[:, 0] - y)
            engine.prepare(optimizer, loss, clipping=Clipping(norm=0.1))
            blocks = Blocks(rows, 32, 3, seed=0, num_replicas=devices.num_replicas)
            class Order(keras.callbacks.Callback):
                def on_epoch_begin(self, epoch, logs=None):
                    blocks.epoch = epoch
            task = Objective("regression", (), "mse", ObjectiveConfig())
            history = engine.fit(
                engine.distributed(blocks), epochs=4, verbose=0, shuffle=False,
                callbacks=[Order(), Validate(engine, rows, task, y)],
            )
            outputs = engine.outputs_of(rows)
            assert np.allclose(history.history["learning_rate"], 0.01)
            return devices.num_replicas, history.history["loss"], outputs[:, 0].tolist()

    result = {}
    for precision in sys.argv[1:]:
        result[precision] = [curve("none", precision), curve("mirrored", precision)]
    print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def two_devices():
    """Curves on one and on two logical CPUs; devices are set once per process."""
    code = textwrap.dedent(TWO_DEVICES)
    result = subprocess.run(
        [sys.executable, "-c", code, "float32", "mixed_bfloat16"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "ran out of data" not in result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 1e-4), pytest.param("mixed_bfloat16", 2e-2, marks=pytest.mark.slow)],
)
def test_two_devices_give_the_curve_of_one(two_devices, precision, tolerance):
    """225 rows in steps of 28 and 29: shards of unequal size."""
    one, two = two_devices[precision]
    assert (one[0], two[0]) == (1, 2)
    np.testing.assert_allclose(two[1], one[1], rtol=tolerance)
    assert one[1][-1] < 0.9 * one[1][0], "the curve must move for this to mean much"
    if precision == "float32":
        np.testing.assert_allclose(two[2], one[2], rtol=1e-3, atol=1e-3)
