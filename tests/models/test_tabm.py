"""TabM: its layers against NumPy, the loss and the mean of its members."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.special
import tensorflow as tf

import kerastrain
from kerastrain.config import ObjectiveConfig
from kerastrain.features import Features, NumberStatistics
from kerastrain.models.tabm import recipe, tabm
from kerastrain.nets.members import (
    BestMembers,
    LinearBatchEnsemble,
    MeanOfMembers,
    MemberHeads,
    MemberScale,
    SharedDense,
    tell_apart,
)
from kerastrain.nets.piecewise import (
    OneHotCodes,
    PiecewiseLinear,
    PiecewiseLinearEmbedding,
    bin_edges,
)
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows, cut
from kerastrain.schema import Target
from kerastrain.training.pruning import chosen_members, pruned, with_members

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

RNG = np.random.default_rng(0)
LABELS = {"binary": ["n", "y"], "multiclass": ["a", "b", "c"], "regression": []}
EDGES = [np.array([-1.0, 0, 0.5, 3]), np.array([2.0, 4]), np.array([0.0, 1, 5])]
close = np.testing.assert_allclose
tasks = pytest.mark.parametrize("task", LABELS)


def floats(*shape):
    return RNG.normal(size=shape).astype("float32")


def objective(task, **config):
    target = Target(name="y", task=task, labels=LABELS[task])
    return Objective.of(target, ObjectiveConfig(**config), np.array([0.0, 1, 2]))


# --- layers of members ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4)])
def test_a_batch_ensemble_is_k_linear_layers_with_a_kernel_in_common(shape):
    x, layer = floats(*shape), LinearBatchEnsemble(2, k=3, start="normal")
    layer.build(shape)
    layer.s.assign(floats(3, 2))
    layer.bias.assign(floats(3, 2))
    r, s, b, w = (v.numpy() for v in (layer.r, layer.s, layer.bias, layer.kernel))
    each = x if len(shape) == 3 else np.repeat(x[:, None], 3, axis=1)
    expected = [((each[:, k] * r[k]) @ w) * s[k] + b[k] for k in range(3)]
    close(layer(x), np.stack(expected, axis=1), rtol=1e-5, atol=1e-6)


def test_scales_and_shared_layers_and_heads_are_those_of_numpy():
    x, members = floats(5, 4), floats(5, 3, 4)
    scale, dense, heads = MemberScale(3), SharedDense(2), MemberHeads(2)
    expected = x[:, None] * np.asarray(scale(x))[:1] / x[:1, None]
    close(scale(x), expected, rtol=1e-5)
    got = dense(members)
    close(got, members @ dense.kernel.numpy() + dense.bias.numpy(), rtol=1e-5)
    got, kernel = heads(members), heads.kernel.numpy()
    expected = np.einsum("bki,kio->bko", members, kernel) + heads.bias.numpy()
    close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("start", ["signs", "normal", "ones"])
def test_scales_begin_alike_in_a_chunk_and_apart_between_members(start):
    layer = LinearBatchEnsemble(6, k=50, start=start, chunks=[2, 3])
    layer.build((None, 5))
    r = layer.r.numpy()
    assert (r[:, :2] == r[:, :1]).all() and (r[:, 2:] == r[:, 2:3]).all()
    assert (layer.s.numpy() == 1).all()
    assert (layer.bias.numpy() == layer.bias.numpy()[:1]).all()
    assert np.abs(layer.kernel).max() <= 1 / np.sqrt(5)
    if start == "ones":
        assert (r == 1).all()
    else:
        assert (np.abs(r) == 1).all() == (start == "signs")
        assert (r[:, 0] != r[:, 2]).mean() > 0.4
        assert abs(r.mean()) < 0.3


def test_chunks_have_to_cover_the_inputs():
    with pytest.raises(ValueError, match="chunks: they add up to 3; there are 5 inp"):
        MemberScale(2, "normal", [1, 2]).build((None, 5))
    with pytest.raises(ValueError, match="keeps 1 member at least, got -1"):
        BestMembers(-1)


def test_biases_do_not_decay_although_they_are_matrices():
    decays = {"bias": 0.0, "linear": 0.0}
    embedding = PiecewiseLinearEmbedding.of(EDGES)
    for layer, shape in [
        (LinearBatchEnsemble(2, k=3), (None, 4)),
        (MemberHeads(2), (None, 3, 4)),
        (embedding, None),
    ]:
        if shape:
            layer.build(shape)
        for weight in layer.trainable_variables:
            given = getattr(weight, "decay_factor", 1.0)
            assert given == decays.get(weight.name, 1.0), weight.path


@tasks
@pytest.mark.parametrize("size", [1, 200])
def test_members_together_say_the_mean_of_their_probabilities(task, size):
    goal = objective(task)
    logits = size * floats(40, 7, goal.num_outputs)
    merged = np.asarray(MeanOfMembers(task == "regression")(logits))
    assert merged.shape == (40, goal.num_outputs)
    assert np.isfinite(merged).all()
    if task == "regression":
        close(merged, logits.mean(axis=1), rtol=1e-4, atol=1e-4)
        return
    wide = logits.astype("float64")
    if task == "binary":
        wide = np.concatenate([0 * wide, wide], axis=2)
    expected = scipy.special.softmax(wide, axis=2).mean(axis=1)
    close(goal.outputs(merged), expected, rtol=1e-4, atol=1e-6)


@tasks
@pytest.mark.parametrize("loss", ["auto", "focal", "huber"])
def test_the_loss_of_a_row_is_the_mean_of_the_losses_of_its_members(task, loss):
    if loss != "auto" and (loss == "huber") != (task == "regression"):
        pytest.skip("a loss of another task")
    goal = objective(task, loss=loss)
    outputs = floats(9, 4, goal.num_outputs)
    targets = tf.constant(goal.encoded(RNG.integers(0, 2, 9)))
    row_loss = goal.row_loss()
    each = [np.asarray(row_loss(targets, outputs[:, k])) for k in range(4)]
    got = row_loss(targets, tf.constant(outputs))
    close(got, np.mean(each, axis=0), rtol=1e-5)
    assert np.asarray(row_loss(targets[:0], tf.constant(outputs[:0]))).shape == (0,)


# --- piecewise-linear -------------------------------------------------------------


def places_in_numpy(numbers, edges, width):
    found = np.zeros((*numbers.shape, width))
    for row, column in np.ndindex(numbers.shape):
        bins = edges[column]
        for j in range(len(bins) - 1):
            place = (numbers[row, column] - bins[j]) / (bins[j + 1] - bins[j])
            place = max(place, 0) if j > 0 else place
            found[row, column, j] = min(place, 1) if j < len(bins) - 2 else place
    return found


NUMBERS = np.array(
    [[-3, 0, 0.5], [-0.5, 3, -2], [0.2, 9, 2], [9, -5, 70]], dtype="float32"
)


def test_places_in_bins_are_those_of_numpy():
    got = PiecewiseLinear.of(EDGES)(NUMBERS)
    close(got, places_in_numpy(NUMBERS, EDGES, 3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("version", ["A", "B"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_embeddings_are_linear_in_the_places(version, activation):
    layer = PiecewiseLinearEmbedding.of(
        EDGES, 4, version=version, activation=activation
    )
    places = places_in_numpy(NUMBERS, EDGES, 3)
    linear = layer.linear.numpy() if version == "B" else 0.0
    straight = NUMBERS[:, :, None] * linear + layer.bias.numpy()
    if version == "B":
        close(layer(NUMBERS), straight, rtol=1e-5, atol=1e-6)  # it begins so
    layer.kernel.assign(floats(3, 3, 4))
    bent = np.einsum("bnj,njd->bnd", places, layer.kernel.numpy())
    rectified = np.maximum if activation == "relu" else lambda x, _: x
    inside = bent + layer.bias.numpy()
    expected = rectified(inside, 0) if version == "A" else straight + rectified(bent, 0)
    close(layer(NUMBERS), expected, rtol=1e-4, atol=1e-4)


def test_a_bin_is_never_as_narrow_as_the_rounding():
    eps = np.spacing(np.float32(7))
    column = np.array([[7, 7 + eps, 7 + eps], [0, 1e-9, 1]], "float32")
    first, second = bin_edges(column)
    assert first.tolist() == [7, 14] and second.tolist() == [0, 1]


def test_codes_become_one_hot_and_missing_ones_nothing():
    codes = np.array([[0, 2], [1, 0], [2, 3]], "int32")
    got = np.asarray(OneHotCodes([3, 4])(codes))
    expected = [[0, 0, 0, 1, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 1]]
    assert got.tolist() == expected


def test_layers_come_back_as_they_were(tmp_path):
    numbers, codes = keras.Input((3,)), keras.Input((2,), dtype="int32")
    x = keras.layers.Flatten()(PiecewiseLinearEmbedding.of(EDGES, 4)(numbers))
    places = keras.layers.Flatten()(PiecewiseLinear.of(EDGES)(numbers))
    x = keras.layers.Concatenate()([x, places, OneHotCodes([3, 4])(codes)])
    x = SharedDense(6)(MemberScale(4, "signs", [12, 9, 5])(x))
    x = BestMembers(2)(LinearBatchEnsemble(3, k=4)(x))
    model = keras.Model([numbers, codes], MeanOfMembers()(MemberHeads(3)(x)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    given = [NUMBERS, np.array([[0, 2], [1, 0], [2, 3], [2, 2]], "int32")]
    close(again(given), model(given), rtol=1e-6)
    configs = [one.get_config() for one in again.layers]
    assert configs == [one.get_config() for one in model.layers]


# --- the whole network ------------------------------------------------------------

SIZES = (3, 60)


def network(task="multiclass", **options):
    """TabM over two numbers, one with gaps, and two categories; with its rows."""
    keras.utils.set_random_seed(1)
    numbers = floats(90, 2)
    numbers[::5, 1] = np.nan
    codes = np.stack([RNG.integers(0, size, 90) for size in SIZES], 1).astype("int32")
    goal = objective(task)
    inputs = {
        "numbers": keras.Input((2,), name="numbers"),
        "codes": keras.Input((2,), name="codes", dtype="int32"),
    }
    same = [keras.layers.Identity(dtype=t.dtype)(t) for t in inputs.values()]
    statistics = NumberStatistics.of(numbers, np.arange(90))
    given = Features(
        inputs, *same, ("a", "b"), ("c", "d"), SIZES, statistics, goal.num_outputs
    )
    small = {"k": 6, "widths": [16, 16], "bins": 5, "embedding_dim": 4} | options
    model = keras.Model(inputs, goal.head(tabm(given, **small)))
    targets = (RNG.integers(0, 3, 90) % max(2, goal.num_outputs)).astype("int32")
    arrays = {"numbers": numbers, "codes": codes}
    rows = Rows(arrays, goal.encoded(targets), np.ones(90, "float32"), np.arange(90))
    return model, rows, goal


@pytest.mark.parametrize("arch", ["tabm", "tabm-mini"])
def test_members_stay_apart_in_training_alone_and_only_when_told(arch):
    model, rows, _ = network(arch=arch)
    assert model.output_shape == (None, 3)
    assert model(rows.inputs, training=True).shape == (90, 3)
    tell_apart(model)
    members = model(rows.inputs, training=True)
    assert members.shape == (90, 6, 3)
    assert np.ptp(members, axis=1).min() > 0
    assert model(rows.inputs).shape == (90, 3)


def test_what_is_wide_is_made_in_the_core_and_not_kept():
    model, *_ = network()
    prefix, core = cut(model)
    kept = {tuple(tensor.shape) for tensor in prefix.output.values()}
    assert kept == {(None, 2), (None, 1)}  # numbers, a gap, and columns of codes
    names = [layer.name for layer in core.layers]
    assert "one_hot" in names and "number_embedding" in names


def test_a_column_weighs_the_same_at_first_in_all_its_inputs():
    model, *_ = network()
    scale = model.get_layer("member_scale")
    assert scale.chunks == [4, 4, 1, 2, 4]  # two numbers, a gap, one-hot, a vector
    assert scale.start == "normal"
    assert network(bins=0)[0].get_layer("member_scale").start == "signs"


@pytest.mark.parametrize("rows", [1, 2_800, 40_000, 10**6])
def test_the_recipe_goes_by_the_rows(rows):
    sizes = {1: 32, 2_800: 64, 40_000: 512, 10**6: 1_024}
    assert recipe("binary", rows)["fit"]["batch_size"] == sizes[rows]


# --- members that are kept --------------------------------------------------------


def test_members_are_taken_in_turn_while_they_help():
    truth = floats(200)
    noise = floats(200, 5)
    answers = truth[:, None] + noise * np.array([3, 0.5, 3, 0.6, 0.7])

    def loss(mean):
        return float(np.square(mean - truth).mean())

    assert chosen_members(answers, loss, 1) == [1]
    three = chosen_members(answers, loss, 3)
    assert three == [1, 3, 4]
    assert loss(answers[:, three].mean(axis=1)) < loss(answers.mean(axis=1))
    assert set(chosen_members(answers, loss, 5)) == {1, 3, 4}


@pytest.mark.parametrize("arch", ["tabm", "tabm-mini"])
@tasks
def test_a_model_with_fewer_members_says_what_they_say(task, arch):
    model, rows, goal = network(task, arch=arch, dropout=0.0)
    tell_apart(model)
    each = np.asarray(model(rows.inputs, training=True))
    smaller = with_members(model, [4, 1])
    got = np.asarray(smaller(rows.inputs))
    expected = MeanOfMembers(task == "regression")(each[:, [4, 1]])
    close(got, expected, rtol=1e-4, atol=1e-5)
    assert smaller.count_params() < model.count_params()


@tasks
def test_the_best_members_are_kept_and_others_taken_out(task):
    model, rows, goal = network(task, prune=2)
    prefix, core = cut(model)
    passed = prefix(rows.inputs)
    behind = Rows(
        {name: np.asarray(tensor) for name, tensor in passed.items()},
        rows.target,
        rows.weight,
        rows.index,
    )
    loss = lambda one: float(  # noqa: E731
        np.mean(goal.row_loss()(rows.target, one(rows.inputs)))
    )
    smaller = pruned(model, core, behind, goal)
    k = smaller.get_layer("head").kernel.shape[0]
    assert k <= 2
    assert loss(smaller) <= loss(model)


def test_a_network_that_keeps_all_is_left_alone():
    model, rows, goal = network()
    assert pruned(model, cut(model)[1], rows, goal) is model


@pytest.mark.slow
def test_a_run_with_tabm_predicts_what_its_loaded_model_does(tmp_path):
    table = pd.DataFrame({"a": floats(300), "b": floats(300), "c": [*"xyz"] * 100})
    table["y"] = np.where(table.a + (table.c == "x") > 0.3, "yes", "no")
    table.loc[::7, "b"] = np.nan
    run = kerastrain.train(
        table,
        "y",
        model={"name": "tabm", "k": 4, "widths": [16], "bins": 8, "prune": 2},
        fit={"epochs": 6},
        split={"folds": 1},
        exports=["saved_model"],
        out=str(tmp_path / "run"),
        progress=False,
    )
    assert run.metrics["test"]["roc_auc"]["value"] > 0.8
    assert run.config.optimizer.learning_rate == 2e-3
    again = kerastrain.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.predict(table), run.predict(table))
    layers = again.model._flatten_layers()
    (head,) = [layer for layer in layers if isinstance(layer, MemberHeads)]
    assert head.kernel.shape[0] <= 2


# --- against the authors' package -------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["tabm", "tabm-mini"])
def test_with_the_weights_of_the_authors_package_outputs_are_the_same(arch, tmp_path):
    """A Python with torch and tabm: this one, or that in REFERENCE_PYTHON."""
    python = os.environ.get("REFERENCE_PYTHON")
    if python is None:
        pytest.importorskip("torch")
        pytest.importorskip("tabm")
    script = Path(__file__).parent / "tabm_reference.py"
    path = tmp_path / "reference.npz"
    subprocess.run([python or sys.executable, script, arch, path], check=True)
    given = np.load(path)
    edges = [given[f"edges_{i}"] for i in range(3)]
    x = keras.Input((3,), name="numbers")
    codes = keras.Input((2,), name="codes", dtype="int32")
    embedding = PiecewiseLinearEmbedding.of(edges, 4)
    flat = keras.layers.Flatten()(embedding(x))
    flat = keras.layers.Concatenate()([flat, OneHotCodes([4, 5])(codes)])
    heads = MemberHeads(3)
    if arch == "tabm-mini":
        layers = [MemberScale(6), SharedDense(16), SharedDense(16)]
    else:
        layers = [LinearBatchEnsemble(16, 6), LinearBatchEnsemble(16, 6)]
    y = flat
    for layer in layers:
        y = layer(y)
        if not isinstance(layer, MemberScale):
            y = keras.ops.relu(y)
    model = keras.Model([x, codes], heads(y))
    embedding.kernel.assign(given["embedding_kernel"])
    embedding.linear.assign(given["embedding_linear"])
    embedding.bias.assign(given["embedding_bias"])
    for number, layer in enumerate([*layers, heads]):
        for weight in layer.trainable_variables:
            weight.assign(given[f"layer_{number}_{weight.name}"])
    got = model([given["numbers"], given["codes"]])
    close(got, given["outputs"], rtol=1e-5, atol=1e-5)
    close(MeanOfMembers()(got), np.log(given["probabilities"]), rtol=1e-5, atol=1e-5)
