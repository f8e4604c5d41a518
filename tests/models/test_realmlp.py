"""RealMLP as a whole: how it starts, steps and resumes, and its authors' package."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain.blocks import Blocks
from kerastrain.config import OptimizerConfig
from kerastrain.engine import Engine, RateFactors, make_optimizer
from kerastrain.features import Features, NumberStatistics
from kerastrain.models.realmlp import realmlp, recipe
from kerastrain.nets.fading import flat_cos
from kerastrain.pipeline import Rows, cut, run_prefix
from kerastrain.training.initial import follow_progress, initialise
from kerastrain.training.state import Position, capture, restore

RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=(200, 3)).astype("float32")
CODES = RANDOM.integers(0, [4, 5, 20], (200, 3)).astype("int32")
SIZES = (4, 5, 20)


class Store:
    def empty(self, shape, dtype):
        return np.empty(shape, dtype)


class Trained:
    """The core of a realmlp and its rows, as training makes them."""

    def __init__(self, numbers, codes, sizes, targets, num_outputs=1, **options):
        keras.utils.set_random_seed(1)
        matrices = {"numbers": numbers, "codes": codes}
        inputs = {
            name: keras.Input(m.shape[1:], name=name, dtype=m.dtype.name)
            for name, m in matrices.items()
        }
        clean = {
            name: keras.layers.Identity(dtype=t.dtype)(t) for name, t in inputs.items()
        }
        places = np.arange(len(targets))
        statistics = NumberStatistics.of(numbers, places)
        names = tuple("abc"), tuple("uvw")
        features = Features(
            inputs, *clean.values(), *names, sizes, statistics, num_outputs
        )
        self.numeric = keras.Model(inputs, realmlp(features, **options))
        prefix, core = cut(self.numeric)
        weight = np.ones(len(numbers), "float32")
        rows = Rows(matrices, targets, weight, places)
        (self.rows,) = run_prefix(prefix, [rows], Store())
        self.engine = Engine(core.inputs, core.outputs[0], name="engine")

    def prepare(self, rate=0.01, num_steps=0, remat=False):
        def loss(targets, outputs):
            return tf.square(outputs[:, 0] - tf.cast(targets, tf.float32))

        config = OptimizerConfig(**recipe("binary", 200)["optimizer"])
        weights = self.engine.trainable_variables
        optimizer = make_optimizer(config, rate, weights, num_steps)
        factors = RateFactors(config, self.engine)
        self.engine.prepare(optimizer, loss, factors=factors, remat=remat)
        follow_progress(self.engine, self.engine.optimizer, num_steps)
        self.blocks = Blocks(self.rows, 50, 4, 0, 1)

    def fit(self, first, end):
        self.engine.begin_epoch(first, self.blocks.num_blocks)  # as `Keeper` does
        data = self.engine.distributed(self.blocks)
        history = self.engine.fit(
            data, initial_epoch=first, epochs=end, verbose=0, shuffle=False
        )
        return history.history["loss"]


@pytest.fixture(scope="module")
def whole():
    made = Trained(NUMBERS, CODES, SIZES, NUMBERS[:, 0], widths=[16, 8])
    initialise(made.engine, made.rows)
    return made


# --- the whole network --------------------------------------------------------------


def test_training_starts_from_the_data(whole):
    """What is initialised sees what stands before it initialised."""
    before = keras.Model(whole.engine.inputs, _outputs_of(whole.engine, "hidden_2"))
    x = before([tf.constant(a) for a in whole.rows.inputs.values()]).numpy()
    bias = whole.engine.get_layer("hidden_2").bias.numpy()
    np.testing.assert_allclose((x - bias).std(axis=0), 1, atol=1e-3)


def _outputs_of(model, name):
    nodes = [n for nodes in model._nodes_by_depth.values() for n in nodes]
    (node,) = [n for n in nodes if n.operation.name == name]
    return node.outputs[0]


def test_one_hots_learn_their_scale_behind_the_cut(whole):
    """The prefix runs once, before that is known."""
    layer = whole.engine.get_layer("one_hot")
    assert (layer.factor.numpy() != 1).any()


def test_steps_are_those_of_adam_with_factors_for_rate_and_decay():
    """Decay goes by the square of the factor, and fades; biases have none."""
    num_steps = 6
    made = Trained(NUMBERS, CODES, SIZES, NUMBERS[:, 0], widths=[6], dropout=0)
    initialise(made.engine, made.rows)
    made.prepare(0.03, num_steps)
    weights = made.engine.trainable_variables
    expected = [v.numpy().astype("float64") for v in weights]
    means = [np.zeros_like(v) for v in expected]
    squares = [np.zeros_like(v) for v in expected]
    for step, (inputs, targets, *_) in enumerate(Blocks(made.rows, 50, 1, 0, 1), 1):
        x, y = made.engine.packed(inputs), tf.constant(targets, tf.float32)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((made.engine(x, training=True)[:, 0] - y) ** 2)
        fade = float(flat_cos((step - 1) / num_steps))
        for i, gradient in enumerate(tape.gradient(loss, weights)):
            g = tf.convert_to_tensor(gradient).numpy().astype("float64")
            means[i] = 0.9 * means[i] + 0.1 * g
            squares[i] = 0.95 * squares[i] + 0.05 * g**2
            moved = means[i] / (1 - 0.9**step)
            moved /= np.sqrt(squares[i] / (1 - 0.95**step)) + 1e-8
            factor, decays = _factors(weights[i].path)
            expected[i] *= 1 - 0.03 * 0.02 * fade * factor**2 * decays
            expected[i] -= 0.03 * factor * moved
            weights[i].assign(expected[i])
    stepped = Trained(NUMBERS, CODES, SIZES, NUMBERS[:, 0], widths=[6], dropout=0)
    initialise(stepped.engine, stepped.rows)
    stepped.prepare(0.03, num_steps)
    stepped.fit(0, 1)
    for variable, value in zip(
        stepped.engine.trainable_variables, expected, strict=True
    ):
        np.testing.assert_allclose(
            variable.numpy(), value, atol=2e-4, err_msg=variable.path
        )


def _factors(path):
    if "front_scale" in path:
        return 6.0, 1
    is_slow = path.endswith(("bias", "bend")) or "pbld" in path
    return 0.1 if is_slow else 1.0, 0 if path.endswith("bias") else 1


@pytest.mark.parametrize(
    "remat", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "remat"]
)
def test_training_goes_on_exactly_where_it_stood(remat):
    def begun():
        made = Trained(NUMBERS, CODES, SIZES, NUMBERS[:, 0], widths=[8])
        initialise(made.engine, made.rows)
        made.prepare(0.01, num_steps=16, remat=remat)
        return made

    straight = begun()
    straight.fit(0, 2)
    middle = capture(straight.engine, [], Position(2))
    losses = straight.fit(2, 4)
    resumed = begun()
    restore(middle, resumed.engine, [])
    assert resumed.fit(2, 4) == losses
    assert losses[1] < losses[0]


# --- its authors' package ------------------------------------------------------------


@pytest.fixture
def reference(tmp_path):
    """Runs pytabkit in the Python that REFERENCE_PYTHON names, or in this."""
    python = os.environ.get("REFERENCE_PYTHON", "")
    if not python:
        pytest.importorskip("pytabkit")
    script = Path(__file__).with_name("realmlp_reference.py")

    def run(task):
        path = tmp_path / "reference.npz"
        command = [python or sys.executable, str(script), task, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(np.load(path, allow_pickle=True))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_same_weights_give_the_outputs_of_pytabkit(task, reference):
    found = reference(task)
    numbers = found["numbers"]
    codes = found["codes"].astype("int32")
    target = found["target"][:300].astype("float64")
    is_regression = task == "regression"
    mean, std = (target.mean(), target.std()) if is_regression else (0, 1)
    made = Trained(
        numbers,
        codes,
        (4, 5, 14),
        (target - mean) / std,
        num_outputs=3 if task == "multiclass" else 1,
        is_regression=is_regression,
    )
    initialise(made.engine, made.rows)  # spreads of one-hots, range of targets
    _take_weights(made.numeric, found)
    outputs = made.numeric({"numbers": numbers, "codes": codes}).numpy()
    if is_regression:
        np.testing.assert_allclose(
            outputs[:, 0], (found["outputs"] - mean) / std, atol=1e-5
        )
        return
    if task == "binary":
        outputs = np.hstack([np.zeros_like(outputs), outputs])
    np.testing.assert_allclose(tf.nn.softmax(outputs), found["outputs"], atol=1e-5)


def _take_weights(model, found):
    """Weights of pytabkit, in its order: waves, vectors, scale, then each layer."""
    given = iter(
        found[f"weight_{i}"] for i in range(len(found)) if f"weight_{i}" in found
    )
    pbld = model.get_layer("pbld")
    for variable in (pbld.frequency, pbld.mix, pbld.phase, pbld.shift):
        variable.assign(next(given).reshape(variable.shape))
    vectors = next(given)
    table = model.get_layer("embedding").table
    table.assign(np.insert(vectors, 1, 0, axis=0))  # rare
    model.get_layer("front_scale").scale.assign(next(given)[0])
    is_last = any(layer.name == "last" for layer in model.layers)
    for number in (1, 2, 3):
        _take_dense(model.get_layer(f"hidden_{number}"), given)
        model.get_layer(f"activation_{number}").bend.assign(next(given)[0])
    _take_dense(model.get_layer("last" if is_last else "outputs"), given)


def _take_dense(layer, given):
    layer.kernel.assign(next(given))
    layer.bias.assign(next(given)[0])
