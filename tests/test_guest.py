"""A compiled Keras model of the user's own, trained by the engine."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerastrain
from kerastrain.engine import Batches, Clipping, Guest
from kerastrain.engine.batches import epochs_of
from kerastrain.errors import ConfigError, DataError, DivergenceError, Interrupted
from kerastrain.events import read_events

rng = np.random.default_rng(0)
X = rng.normal(size=(70, 4)).astype("float32")
Y = (X.sum(1) > 0).astype("float32")
W = rng.uniform(0.5, 2, 70).astype("float32")


def in_order(*arrays, batch_size=32):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)


def shuffled(seed=3):
    return tf.data.Dataset.from_tensor_slices((X, Y, W)).shuffle(70, seed).batch(16)


def epoch_of(epoch):
    data = tf.data.Dataset.from_tensor_slices((X, Y, W))
    return data.shuffle(70, seed=epoch).batch(16)


def fit(model, data, epochs=2, **options):
    return kerastrain.fit(model, data, epochs=epochs, progress=False, **options).history


# --- models -----------------------------------------------------------------------


def plain(optimizer="sgd", *layers, loss="binary_crossentropy", **options):
    if not layers:
        keras.utils.set_random_seed(1)
    head = keras.layers.Dense(1, "sigmoid")
    model = keras.Sequential([keras.layers.Dense(8, "relu"), *layers, head])
    model.compile(optimizer, loss, jit_compile=False, **options)
    return model


def rich():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    model = plain(
        keras.optimizers.Adam(0.01, clipnorm=0.5),
        *layers,
        keras.layers.Dense(8, kernel_regularizer="l2"),
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
        weighted_metrics=["mse"],
    )
    return model, in_order(X, Y, W)


def several_outputs():
    keras.utils.set_random_seed(1)
    a, b = keras.Input((4,), name="a"), keras.Input((1,), name="b")
    x = keras.layers.Dense(6, "relu")(keras.layers.Concatenate()([a, b]))
    outputs = {
        "kind": keras.layers.Dense(3, "softmax", name="kind")(x),
        "size": keras.layers.Dense(1, name="size")(x),
    }
    model = keras.Model({"a": a, "b": b}, outputs)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, 6)),
        loss={"kind": "sparse_categorical_crossentropy", "size": "mae"},
        loss_weights={"kind": 0.3, "size": 2.0},
        metrics={"kind": "accuracy", "size": "mse"},
    )
    targets = {"kind": (X[:, 0] > 0).astype("int32"), "size": X[:, 1:2]}
    return model, in_order({"a": X, "b": X[:, :1]}, targets)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.head = keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.first(x))


def subclassed():
    keras.utils.set_random_seed(1)
    model = Own()
    model.compile("rmsprop", "mse", steps_per_execution=2)
    return model, in_order(X, Y[:, None])


def half():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = plain(keras.optimizers.Adam(0.01))
    finally:
        keras.config.set_dtype_policy(policy)
    return model, in_order(X, Y)


@pytest.mark.parametrize(
    "make",
    [
        rich,
        *(
            pytest.param(m, marks=pytest.mark.slow)
            for m in (several_outputs, subclassed, half)
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_numbers_are_those_of_keras(make):
    model, data = make()
    expected = model.fit(data, validation_data=data, epochs=3, verbose=0, shuffle=False)
    again, _ = make()
    found = fit(again, data, 3, validation_data=data)
    assert found.keys() == expected.history.keys()
    tolerance = 2e-3 if make is half else 1e-5
    for name, values in expected.history.items():
        np.testing.assert_allclose(found[name], values, rtol=tolerance, err_msg=name)
    assert again.steps_per_execution == model.steps_per_execution
    again.evaluate(data, verbose=0)  # it is an ordinary model afterwards
    again.fit(data, verbose=0, shuffle=False)


@pytest.mark.parametrize("parts", [2, 7])
def test_a_batch_in_parts_is_the_batch_in_one(parts):
    data = in_order(X, Y, W)
    whole, divided = (
        plain(keras.optimizers.Adam(0.05), metrics=["accuracy", "auc"])
        for _ in range(2)
    )
    expected = fit(whole, data, clip_norm=0.1)
    found = fit(divided, data, clip_norm=0.1, accumulate=parts)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
    for one, other in zip(whole.get_weights(), divided.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_loss_that_is_no_mean_is_not_divided():
    model = plain(loss=keras.losses.BinaryCrossentropy(reduction="sum"))
    with pytest.raises(ConfigError, match=r"A loss has reduction='sum': .* accumulate"):
        fit(model, in_order(X, Y), accumulate=2)


def test_arrays_are_shuffled_by_the_epoch():
    seen = []
    model = plain()
    call = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: seen.append(float(model.get_weights()[0].sum())),
    )
    first = fit(model, (X, Y), batch_size=16, seed=5, callbacks=[call])
    assert fit(plain(), (X, Y), batch_size=16, seed=5) == first
    assert fit(plain(), (X, Y), batch_size=16, seed=6) != first
    assert len(seen) == 2


def test_a_generator_of_unknown_length_is_gone_through():
    data = in_order(X, Y).filter(lambda *_: True)
    assert fit(plain(), data, 3) == fit(plain(), in_order(X, Y), 3)


# --- two devices ------------------------------------------------------------------

TWO_DEVICES = """
import json, sys
import keras, numpy as np, tensorflow as tf
import kerastrain

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
rng = np.random.default_rng(0)
x = rng.normal(size=(67, 4)).astype("float32")
y = (x.sum(1) > 0).astype("float32")
w = rng.uniform(0.5, 2, 67).astype("float32")

def run(**options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.layers.Dense(8, "relu", kernel_regularizer="l2"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(1, "sigmoid"),
    ])
    optimizer = keras.optimizers.Adam(0.02, global_clipnorm=0.05)
    metrics = ["accuracy", keras.metrics.AUC(name="auc")]
    model.compile(optimizer, "binary_crossentropy", weighted_metrics=metrics)
    data = tf.data.Dataset.from_tensor_slices((x, y, w)).shuffle(67, 3).batch(33)
    h = kerastrain.fit(
        model, data, epochs=3, validation_data=(x, y), progress=False, **options
    )
    return h.history | {"weights": [v.tolist() for v in model.get_weights()]}

one = run()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    two = run()
    saved = run(average="ema", folder=sys.argv[1])
    again = run(average="ema", folder=sys.argv[1])
print(json.dumps([one, two, saved == again]))
"""


@pytest.mark.slow
def test_two_devices_give_the_numbers_of_one(tmp_path):
    done = python(TWO_DEVICES, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    one, two, is_same = json.loads(done.stdout.splitlines()[-1])
    assert is_same
    for name in one.keys() - {"weights"}:
        np.testing.assert_allclose(one[name], two[name], rtol=2e-4, err_msg=name)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


# --- after a crash ----------------------------------------------------------------


class Crash(Exception):
    pass


class CrashAt(keras.callbacks.Callback):
    """Ends the process, or raises, after so many steps of this process."""

    remembered = ()

    def __init__(self, num_steps):
        super().__init__()
        self.num_left = num_steps

    def on_train_batch_end(self, batch, logs=None):
        self.num_left -= 1
        if not self.num_left:
            raise Crash


def settled(tmp_path):
    """Callbacks whose best values count."""
    return [
        keras.callbacks.EarlyStopping(monitor="loss", patience=2, min_delta=0.01),
        keras.callbacks.ReduceLROnPlateau(
            monitor="loss", factor=0.5, patience=1, min_delta=0.05
        ),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "mine.keras", monitor="val_loss", save_best_only=True
        ),
    ]


def state_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [variable.numpy() for variable in variables]


def trained(data, folder, crash=(), **options):
    """A new process in all but name: model, data and callbacks are made anew."""
    model, _ = rich()
    callbacks = [*settled(folder), *crash]
    options = {"validation_data": (X, Y), "checkpoint": 1, **options}
    history = fit(model, data(), 4, folder=folder, callbacks=callbacks, **options)
    return state_of(model), history


def assert_same(one, other):
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)


KINDS = {
    "shuffled": shuffled,
    "function": lambda: epoch_of,
    "arrays": lambda: (X, Y, W),
    "unknown_length": lambda: shuffled().filter(lambda *_: True),
}


SLOW = [*((kind, {}) for kind in KINDS), ("shuffled", {"average": "swa"})]
CRASHED = [
    ("shuffled", {"average": "ema", "patience": 3}),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
]


@pytest.mark.parametrize(("kind", "options"), CRASHED)
def test_a_fit_that_crashed_twice_ends_with_the_same_bits(kind, options, tmp_path):
    expected = trained(KINDS[kind], tmp_path / "whole", **options)
    for num_steps in (8, 5):
        with pytest.raises(Crash):
            trained(KINDS[kind], tmp_path / "cut", [CrashAt(num_steps)], **options)
    found = trained(KINDS[kind], tmp_path / "cut", [CrashAt(0)], **options)
    assert_same(expected, found)
    # Once more with all done: nothing is trained.
    assert_same(found, trained(KINDS[kind], tmp_path / "cut", [CrashAt(1)], **options))
    whole, cut = (tmp_path / name / "history.csv" for name in ("whole", "cut"))
    assert whole.read_text() == cut.read_text()


KILLED = """
import os, sys
import keras, numpy as np, tensorflow as tf
import kerastrain

tf.config.experimental.enable_op_determinism()
folder, at = sys.argv[1], int(sys.argv[2])

def kill(batch, logs):
    if int(model.optimizer.iterations) == at:
        os.kill(os.getpid(), 9)

def train(folder):
    global model
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype("float32")
    y = (x.sum(1) > 0).astype("float32")
    model = keras.Sequential([
        keras.layers.Dense(8, "relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, "sigmoid"),
    ])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["auc"])
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(200, seed=3).batch(16)
    call = keras.callbacks.LambdaCallback(on_train_batch_end=kill)
    history = kerastrain.fit(
        model, data, epochs=4, validation_data=(x, y), folder=folder, checkpoint=3,
        average="ema", callbacks=[call], progress=False,
    ).history
    return [*model.variables, *model.optimizer.variables], history

weights, history = train(folder)
values = [v.numpy() for v in weights]
at = -1
expected, whole = train(folder + "-whole")
assert whole == history, (whole, history)
assert all((a == b.numpy()).all() for a, b in zip(values, expected))
print("same")
"""


@pytest.mark.slow
def test_a_process_that_is_killed_twice_ends_with_the_same_bits(tmp_path):
    folder = str(tmp_path / "fit")
    for step in ("20", "37"):
        assert python(KILLED, folder, step).returncode == -signal.SIGKILL
    done = python(KILLED, folder, "-1")
    assert done.stdout.strip().endswith("same"), done.stderr[-3000:]
    codes = [event.code for event in read_events(tmp_path / "fit" / "events.jsonl")]
    assert codes == ["resumed", "resumed"]


def test_data_that_do_not_come_back_are_told(tmp_path):
    counter = itertools.count()

    def data():
        return shuffled(seed=next(counter))

    with pytest.raises(Crash):
        trained(data, tmp_path, [CrashAt(8)])
    trained(data, tmp_path, [CrashAt(0)])
    (event,) = read_events(tmp_path / "events.jsonl")[:1]
    assert event.code == "data_differ"
    assert "goes on from the start of epoch 2" in event.message


def test_a_signal_says_how_to_go_on(tmp_path):
    def ask(batch, logs):
        if calls.pop():
            signal.raise_signal(signal.SIGTERM)

    def run(folder):
        call = keras.callbacks.LambdaCallback(on_train_batch_end=ask)
        return fit(plain(), in_order(X, Y), folder=tmp_path / folder, callbacks=[call])

    calls = [False] * 11 + [True] + [False]
    with pytest.raises(
        Interrupted, match=r"by SIGTERM in epoch 1.*same folder goes on"
    ):
        run("stopped")
    assert run("stopped") == run("whole")


# --- divergence -------------------------------------------------------------------


@pytest.mark.parametrize(
    "rate", [0.1, keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.9)]
)
def test_a_divergence_goes_back_and_lowers_the_rate(rate, tmp_path):
    seen = []
    model = plain(keras.optimizers.SGD(rate))
    shown = float(plain(keras.optimizers.SGD(rate)).optimizer.learning_rate)

    def data(epoch):
        if epoch == 1 and not seen:
            seen.append(epoch)
            return in_order(np.where(X > 1, np.inf, X), Y)
        return in_order(X, Y)

    history = fit(model, data, 3, folder=tmp_path)
    assert np.isfinite(history["loss"]).all()
    assert len(history["loss"]) == 3
    (event,) = read_events(tmp_path / "events.jsonl")
    assert event.code == "diverged"
    assert "start of epoch 2; the learning rate is multiplied by 0.3" in event.message
    if isinstance(rate, float):
        assert float(model.optimizer.learning_rate) == pytest.approx(shown)


def test_the_scale_of_the_rate_is_that_of_the_steps():
    model, slower = plain("sgd"), plain("sgd")
    slower.optimizer.learning_rate = 0.003
    epochs, is_drawn = epochs_of(in_order(X, Y), 32, 0)
    batches = Batches(epochs, model.distribute_strategy, is_drawn=is_drawn)
    guest = Guest(model, batches, clipping=Clipping())
    guest.scale.assign(0.3)
    fit(slower, in_order(X, Y), 1)
    batches.begin()
    guest._iterator = type("Counter", (), {"_steps_seen": 3})()
    while batches.has_next:
        guest._train(None)
    for one, other in zip(model.get_weights(), slower.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_divergence_that_stays_names_its_batch(tmp_path):
    x = np.where(X > 2, np.inf, X)
    with pytest.raises(DivergenceError, match=r"step 1 of epoch 1 .*Not finite") as e:
        fit(plain(), in_order(x, Y), folder=tmp_path, retries=1)
    assert "clip_norm=0.1" in str(e.value)
    saved = np.load(tmp_path / "diverged_batch.npz")
    np.testing.assert_array_equal(saved["0"], x[:32])
    np.testing.assert_array_equal(saved["1"], Y[:32])


def test_lack_of_memory_divides_the_batch(monkeypatch, tmp_path):
    model, whole = plain("sgd"), plain("sgd")
    compute_loss = model._compute_loss

    def hungry(x, y, y_pred, sample_weight=None, training=True):
        if training and x.shape[0] > 20:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return compute_loss(x, y, y_pred, sample_weight, training)

    monkeypatch.setattr(model, "_compute_loss", hungry)
    model.run_eagerly = True
    found = fit(model, in_order(X, Y), folder=tmp_path)
    expected = fit(whole, in_order(X, Y))
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    (event,) = read_events(tmp_path / "events.jsonl")
    assert event.details == {"accumulate": 2}


# --- around it --------------------------------------------------------------------


def test_callbacks_see_the_model_that_the_user_made():
    seen = []
    model = plain()
    call = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, logs: seen.append((call.model, call.params, {**logs}))
    )
    fit(model, in_order(X, Y), 1, callbacks=[call], validation_data=(X, Y))
    ((shown, params, logs),) = seen
    assert shown is model
    assert params == {"epochs": 1, "steps": 3, "verbose": 0}
    assert logs.keys() == {"loss", "val_loss"}


def test_patience_keeps_the_best_weights(tmp_path):
    kept = []
    model = plain(keras.optimizers.SGD(0.1))
    call = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: kept.append(model.get_weights())
    )
    history = fit(
        model,
        in_order(X, 1 - Y),
        30,
        validation_data=(X, Y),
        patience=2,
        folder=tmp_path,
        callbacks=[call],
    )
    assert len(history["loss"]) < 30
    best = int(np.argmin(history["val_loss"]))
    for one, other in zip(model.get_weights(), kept[best], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (tmp_path / "checkpoints" / "best.weights.h5").is_file()


def test_an_average_is_what_is_validated_and_kept():
    model = plain(keras.optimizers.SGD(0.5))
    history = fit(model, in_order(X, Y), 3, validation_data=(X, Y), average="ema")
    loss = model.evaluate(X, Y, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return {}


def own_step():
    model = OwnStep([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


REFUSED = [
    (own_step, {}, "OwnStep has a train_step of its own"),
    (lambda: keras.Sequential([keras.layers.Dense(1)]), {}, "is not compiled"),
    (plain, {"clip": 1}, "no key 'clip'. Did you mean 'clip_"),
    (plain, {"checkpoint": "soon"}, "fit: checkpoint"),
    (plain, {"monitor": "los", "patience": 1}, "Did you mean 'loss'"),
    (plain, {"profile_steps": "1:2"}, "profile_steps needs a folder"),
]


@pytest.mark.parametrize(("make", "options", "message"), REFUSED)
def test_what_cannot_be_done_is_refused(make, options, message):
    with pytest.raises(ConfigError, match=message):
        fit(make(), in_order(X, Y), **options)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (in_order(X, Y).repeat(), DataError, "never ends"),
        (in_order(X, Y).take(0), DataError, "no batch"),
        ((X, Y[:-1]), DataError, "these have 69 and 70"),
        (X, ConfigError, "data: expected a tf.data.Dataset of batches"),
    ],
)
def test_data_that_cannot_be_used_are_refused(data, error, message):
    with pytest.raises(error, match=message):
        fit(plain(), data)
