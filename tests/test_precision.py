"""Mixed precision: switched in a built model, compared, and scaled rightly."""

import contextlib
import json
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.engine import Clipping, Engine
from kerastrain.engine.precision import compare_precisions, set_precision
from kerastrain.events import recording
from kerastrain.layers import CategoryEmbedding, RobustScale, SignedLog
from kerastrain.pipeline import Rows
from kerastrain.training.precision_check import PrecisionCheck

layers = keras.layers
NUMBERS = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
CODES = np.random.default_rng(1).integers(0, 3, (64, 2)).astype("int32")
MIXED = ["mixed_bfloat16", "mixed_float16"]


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def model_of(precision):
    """Layers of Keras and of ours, nested ones, and a head that is float32."""
    with policy(precision):
        keras.utils.set_random_seed(0)
        numbers, codes = keras.Input((4,)), keras.Input((2,), dtype="int32")
        scaled = SignedLog()(RobustScale([0.1] * 4, [2.0] * 4)(numbers))
        vectors = CategoryEmbedding([3, 3], dim=4)(codes)
        words = layers.Embedding(3, 8)(codes)
        words = layers.MultiHeadAttention(2, 4)(words, words)
        words = layers.LayerNormalization()(words)
        x = layers.Concatenate()([scaled, vectors, layers.Flatten()(words)])
        inner_inputs = keras.Input((28,))
        inner = layers.BatchNormalization()(layers.Dense(8)(inner_inputs))
        x = keras.Model(inner_inputs, layers.Activation("gelu")(inner))(x)
        x = layers.Dropout(0.2)(x + 1)
        head = layers.Dense(2, dtype="float32")(x)
        return keras.Model([numbers, codes], head)


def outputs_of(model):
    return np.asarray(model([NUMBERS, CODES], training=False))


def policies_of(model):
    """Of all layers that compute; those of models and inputs are not saved."""
    idle = keras.Model | layers.InputLayer
    every = model._flatten_layers()
    return [x.dtype_policy.name for x in every if not isinstance(x, idle)]


@pytest.mark.parametrize("precision", MIXED)
def test_a_model_that_is_switched_is_one_that_was_built_so(precision):
    built, switched = model_of(precision), model_of("float32")
    exact = outputs_of(switched)
    set_precision(switched, precision)
    assert policies_of(switched) == policies_of(built)
    np.testing.assert_array_equal(outputs_of(switched), outputs_of(built))
    assert (outputs_of(switched) != exact).any()
    assert {weight.dtype for weight in switched.trainable_weights} == {"float32"}


@pytest.mark.parametrize("precision", MIXED)
def test_mixed_precision_can_be_left_and_taken_up_again(precision):
    model = model_of(precision)
    names, mixed = policies_of(model), outputs_of(model)
    set_precision(model, "float32")
    np.testing.assert_array_equal(outputs_of(model), outputs_of(model_of("float32")))
    set_precision(model, precision)
    assert policies_of(model) == names
    np.testing.assert_array_equal(outputs_of(model), mixed)


def test_a_switched_model_gives_the_same_after_it_was_saved(tmp_path):
    model = model_of("float32")
    set_precision(model, "mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert policies_of(loaded) == policies_of(model)
    np.testing.assert_array_equal(outputs_of(loaded), outputs_of(model))


def test_what_was_traced_before_stays_until_it_is_traced_again():
    model = model_of("float32")
    function = tf.function(lambda: model([NUMBERS, CODES], training=False))
    before = function().numpy()
    set_precision(model, "mixed_bfloat16")
    np.testing.assert_array_equal(function().numpy(), before)


def rows_of(numbers, target=None):
    count = len(numbers)
    target = np.zeros(count, "float32") if target is None else target
    inputs = {"numbers": numbers, "codes": CODES[:count]}
    return Rows(inputs, target, np.ones(count, "float32"), np.arange(count))


def test_the_difference_is_told_in_shares_of_the_spread():
    model = model_of("mixed_bfloat16")
    names, exact = policies_of(model), outputs_of(model_of("float32"))
    off = compare_precisions(model, rows_of(NUMBERS))
    assert policies_of(model) == names
    spread = exact.std(axis=0).mean()
    expected = np.abs(outputs_of(model) - exact) / spread
    assert off.spread == pytest.approx(spread, rel=1e-5)
    assert off.mean == pytest.approx(expected.mean(), rel=1e-3)
    assert off.maximum == pytest.approx(expected.max(), rel=1e-3)
    assert 0 < off.mean < off.maximum < 0.05


def test_float32_does_not_differ_from_itself():
    off = compare_precisions(model_of("float32"), rows_of(NUMBERS))
    assert (off.mean, off.maximum) == (0, 0)


# --- the callback ---------------------------------------------------------------


def engine_of(precision, layer=None, rate=0.01, **options):
    with policy(precision):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        x = (layer or layers.Dense(8, activation="relu"))(inputs)
        engine = Engine(inputs, layers.Dense(1, dtype="float32")(x))
    row_loss = lambda y, outputs: tf.square(outputs[:, 0] - y)  # noqa: E731
    return engine.prepare(keras.optimizers.SGD(rate), row_loss, **options)


def plain_rows(target):
    rows = rows_of(NUMBERS, target)
    return Rows({"x": NUMBERS}, target, rows.weight, rows.index)


def checked(precision, layer=None):
    engine = engine_of(precision, layer, rate=1e-7)
    rows = plain_rows(NUMBERS[:, 0])
    check = PrecisionCheck(engine, rows, precision)
    data = Blocks(rows, 16, 2, seed=0).dataset()
    with recording() as recorder:
        engine.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=[check])
    return [e for e in recorder.events if e.code == "precision_checked"]


@pytest.mark.parametrize("precision", MIXED)
def test_the_first_epoch_ends_with_what_the_precision_costs(precision):
    (event,) = checked(precision)
    assert event.severity == "info"
    assert f"outputs in {precision} differ from float32 by 0." in event.message
    assert 0 < event.details["mean"] < 0.05
    assert event.details["num_rows"] == 64


def test_nothing_is_compared_in_float32():
    assert checked("float32") == []


def test_a_model_that_needs_float32_is_told_of():
    """Numbers around 1,000 that differ by 1 are the same in bfloat16."""
    lost = layers.Dense(
        8,
        bias_initializer=keras.initializers.Constant(1e3),
        dtype="mixed_bfloat16",
    )
    (event,) = checked("mixed_bfloat16", lost)
    assert event.severity == "warning"
    assert "Train in float32 (--set runtime.precision=float32)." in event.message


# --- the loss and its scale -------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", *MIXED])
def test_the_loss_and_the_outputs_are_float32(precision):
    engine = engine_of(precision)
    seen = []
    row_loss = engine.row_loss
    engine.row_loss = lambda y, out: seen.append(out.dtype) or row_loss(y, out)
    data = Blocks(plain_rows(NUMBERS[:, 0]), 16, 2, seed=0).dataset()
    engine.fit(data, verbose=0, shuffle=False)
    assert {dtype.name for dtype in seen} == {"float32"}
    assert engine.outputs_of(plain_rows(NUMBERS[:, 0])).dtype == "float32"


@pytest.mark.parametrize("precision", MIXED)
def test_losses_of_layers_in_16_bits_are_added(precision):
    layer = layers.Dense(8, activity_regularizer="l2", dtype=precision)
    engine = engine_of(precision, layer, remat=True)
    data = Blocks(plain_rows(NUMBERS[:, 0]), 16, 2, seed=0).dataset()
    engine.fit(data, verbose=0, shuffle=False)
    assert np.isfinite(engine.get_weights()[0]).all()


CLIPPINGS = [Clipping(), Clipping(norm=1.0), Clipping(1.0, 1.0, 1.0)]


@pytest.mark.parametrize("clipping", CLIPPINGS, ids=["plain", "norm", "all"])
def test_a_gradient_that_overflows_is_skipped_and_the_scale_halved(clipping):
    """The loss is finite; times 2^15 its gradient is not in float16."""
    engine = engine_of("mixed_float16", clipping=clipping)
    data = Blocks(plain_rows(np.full(64, 1e4, "float32")), 64, 1, seed=0).dataset()
    before = engine.get_weights()
    loss = engine.fit(data, verbose=0, shuffle=False).history["loss"][0]
    assert np.isfinite(loss)
    for one, other in zip(before, engine.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
    assert float(engine.optimizer.dynamic_scale) == 2.0**14
    assert int(engine.optimizer.iterations) == 0
    engine.fit(data, epochs=20, verbose=0, shuffle=False)
    assert int(engine.optimizer.iterations) > 0, "the scale has become small enough"
    assert np.isfinite(engine.get_weights()[0]).all()


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
    from kerastrain.engine import Clipping, Engine
    from kerastrain.pipeline import Rows
    from kerastrain.runtime import runtime

    def fitted(strategy, place):
        x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
        y = np.zeros(16, "float32")
        config = RuntimeConfig(strategy=strategy, precision="mixed_float16")
        with runtime(config, seed=1) as devices:
            blocks = Blocks(
                Rows({"x": x}, y, np.ones(16, "float32"), np.arange(16)),
                16, 1, seed=0, num_replicas=devices.num_replicas,
            )
            # The large target lands in the first or in the second device's half.
            y[blocks.steps(0)[0][place]] = 1e5
            inputs = keras.Input((4,))
            h = keras.layers.Dense(8, activation="relu")(inputs)
            engine = Engine(inputs, keras.layers.Dense(1, dtype="float32")(h))
            loss = lambda y, out: keras.ops.square(out[:, 0] - y)
            optimizer = keras.optimizers.SGD(1e-6)
            engine.prepare(optimizer, loss, clipping=Clipping(norm=1.0))
            before = engine.get_weights()
            data = engine.distributed(blocks)
            engine.fit(data, verbose=0, shuffle=False)
            same = all((a == b).all() for a, b in zip(before, engine.get_weights()))
            scale = float(engine.optimizer.dynamic_scale.numpy())
            engine.fit(data, epochs=24, verbose=0, shuffle=False)
            return {
                "replicas": devices.num_replicas, "same": bool(same), "scale": scale,
                "later": float(engine.optimizer.dynamic_scale.numpy()),
                "weights": [float(abs(w).sum()) for w in engine.get_weights()],
                "steps": int(engine.optimizer.iterations.numpy()),
            }

    print(json.dumps([[fitted(s, p) for s in ("none", "mirrored")] for p in (0, -1)]))
"""


@pytest.mark.slow
def test_an_overflow_on_either_of_two_devices_skips_the_step_on_both(run_python):
    """Keras' own step asks the first device alone, before the reduction."""
    for one, two in json.loads(run_python(textwrap.dedent(TWO_DEVICES))):
        assert (one.pop("replicas"), two.pop("replicas")) == (1, 2)
        assert (two["same"], two["scale"]) == (True, 2.0**14)
        assert two["steps"] > 0
        np.testing.assert_allclose(two.pop("weights"), one.pop("weights"), rtol=1e-3)
        assert one == two
