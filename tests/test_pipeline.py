"""The cut, and the arrays behind it."""

import keras
import numpy as np
import pytest

from kerastrain import layers
from kerastrain.arrays import MAX_CHUNK_ROWS, ArrayStore, DiskArray
from kerastrain.blocks import Blocks
from kerastrain.pipeline import Rows, cut, run_prefix

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

X = {
    "a": np.random.default_rng(0).normal(size=(9, 3)).astype("float32"),
    "b": np.random.default_rng(1).normal(size=(9, 3)).astype("float32"),
}
L = keras.layers


def scale(x):
    return layers.RobustScale([1, 2, 3], [1, 0.5, 2])(x)


def frozen(*parts):
    net = keras.Sequential([keras.Input((3,)), *parts])
    net.trainable = False
    return net


def linear(a, b):
    return scale(a)


def mlp(a, b):
    x = L.Concatenate()([scale(a), layers.SmoothClip()(b)])
    x = L.Dense(8, activation="relu")(x)
    return L.Dropout(0.5)(x)


def nothing_frozen(a, b):
    return L.Add()([L.Dense(4)(a), L.Dense(4)(b)])


def dropout_first(a, b):
    return L.Dropout(0.5)(scale(a))


def noise_first(a, b):
    return L.GaussianNoise(0.1)(scale(a))


def batch_norm_first(a, b):
    return L.BatchNormalization(scale=False, center=False)(scale(a))


def frozen_batch_norm(a, b):
    norm = L.BatchNormalization()
    norm.trainable = False
    return norm(scale(a))


def hidden_batch_norm(a, b):
    norm = L.BatchNormalization(scale=False, center=False)
    return keras.Sequential([keras.Input((3,)), norm])(scale(a))


def hidden_dropout(a, b):
    return frozen(L.Dense(4), L.Dropout(0.5))(scale(a))


def frozen_backbone(a, b):
    return frozen(L.Dense(5, activation="relu"), L.BatchNormalization())(scale(a))


def shared_frozen(a, b):
    shared = layers.RobustScale([1, 2, 3], [1, 2, 3])
    return L.Concatenate()([shared(a), shared(b)])


def shared_learning(a, b):
    scaled, shared = layers.RobustScale([1, 2, 3], [1, 2, 3]), L.Dense(3)
    return L.Concatenate()([shared(shared(scaled(a))), shared(scaled(b))])


def shared_on_both_sides(a, b):
    shared = layers.SmoothClip()
    return shared(L.Dense(3)(shared(scale(a))))


def residual(a, b):
    x = scale(a)
    y = L.Add()([x, L.Dense(3)(x)])
    return L.Add()([x, L.Dense(3)(y)])


def late_second_input(a, b):
    return L.Concatenate()([L.Dense(4)(scale(a)), scale(b), scale(scale(b))])


def operations(a, b):
    x = keras.ops.where(a > 0, keras.ops.square(a), b)
    return keras.ops.tanh(x) * L.Dense(3)(a)


# Which layers lie in the prefix beside the inputs, and how many tensors it gives.
NETWORKS = {
    linear: ("RobustScale", 1),
    mlp: ("Concatenate RobustScale SmoothClip", 1),
    nothing_frozen: ("", 2),
    dropout_first: ("RobustScale", 1),
    noise_first: ("RobustScale", 1),
    batch_norm_first: ("RobustScale", 1),
    frozen_batch_norm: ("BatchNormalization RobustScale", 1),
    hidden_batch_norm: ("RobustScale", 1),
    hidden_dropout: ("RobustScale", 1),
    frozen_backbone: ("RobustScale Sequential", 1),
    shared_frozen: ("Concatenate RobustScale", 1),
    shared_learning: ("RobustScale", 2),
    shared_on_both_sides: ("RobustScale", 1),
    residual: ("RobustScale", 1),
    late_second_input: (" ".join(["RobustScale"] * 4), 3),
    operations: ("", 2),
}


def build(network):
    """A model with the inputs a and b, of which one may be unused."""
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input((3,), name=name) for name in X}
    tensors = {name: L.Identity()(tensor) for name, tensor in inputs.items()}
    return keras.Model(inputs, L.Dense(2, name="head")(network(**tensors)))


def core_of_prefix(prefix, core, **options):
    return core([*prefix(X).values()], **options).numpy()


every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.__name__)


@every_network
def test_the_core_after_the_prefix_is_the_model(network):
    model = build(network)
    prefix, core = cut(model)
    np.testing.assert_array_equal(core_of_prefix(prefix, core), model(X).numpy())
    assert core.output.shape == model.output.shape


@every_network
def test_the_prefix_holds_all_that_is_frozen_and_nothing_that_learns(network):
    model = build(network)
    prefix, core = cut(model)
    names = [
        type(layer).__name__
        for layer in prefix.layers
        if isinstance(layer, keras.layers.Layer)
        and not isinstance(layer, L.InputLayer | L.Identity)
        and not layer.name.startswith(("greater", "square", "where", "tanh"))
    ]
    expected_layers, num_tensors = NETWORKS[network]
    assert " ".join(sorted(names)) == expected_layers
    assert len(prefix.output) == len(core.inputs) == num_tensors
    assert not prefix.trainable_variables
    assert not [v.path for v in prefix.variables if "seed" in v.path]
    assert {v.path for v in core.trainable_variables} == {
        v.path for v in model.trainable_variables
    }
    once, twice = (prefix(X, training=True) for _ in range(2))
    for name, tensor in prefix(X).items():
        np.testing.assert_array_equal(tensor, once[name])
        np.testing.assert_array_equal(tensor, twice[name])


@every_network
def test_training_the_core_trains_the_model(network):
    model = build(network)
    prefix, core = cut(model)
    before = model(X).numpy()
    state = [v.numpy() for v in model.non_trainable_variables if "moving" in v.path]
    core.compile(keras.optimizers.SGD(0.1), "mse")
    core.train_on_batch([*prefix(X).values()], np.ones((9, 2)))
    after = model(X).numpy()
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(core_of_prefix(prefix, core), after)
    moved = [v.numpy() for v in model.non_trainable_variables if "moving" in v.path]
    if network in (batch_norm_first, hidden_batch_norm):
        assert all(
            np.abs(a - b).max() > 1e-3 for a, b in zip(state, moved, strict=True)
        )
    else:
        assert all((a == b).all() for a, b in zip(state, moved, strict=True))


@every_network
def test_the_model_saves_and_loads_after_the_cut(network, tmp_path):
    model = build(network)
    cut(model)
    outer = keras.Model(model.inputs, model({t.name: t for t in model.inputs}) * 2)
    model.save(tmp_path / "model.keras")
    outer.save(tmp_path / "outer.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(X), model(X))
    again = keras.saving.load_model(tmp_path / "outer.keras", safe_mode=True)
    np.testing.assert_array_equal(again([*X.values()]), model(X) * 2)


@every_network
def test_a_model_can_be_cut_again(network):
    model = build(network)
    cut(model)
    prefix, core = cut(model)
    np.testing.assert_array_equal(core_of_prefix(prefix, core), model(X).numpy())


def test_a_model_of_which_only_the_head_learns_is_cut_before_the_head():
    model = build(mlp)
    for layer in model.layers:
        layer.trainable = layer.name == "head"
    prefix, core = cut(model)
    assert "Dense" in {type(layer).__name__ for layer in prefix.layers}
    assert [type(layer).__name__ for layer in core.layers] == [
        "InputLayer",
        "Dropout",  # of no weights, but random
        "Dense",
    ]
    np.testing.assert_array_equal(core_of_prefix(prefix, core), model(X).numpy())


def test_a_part_of_a_model_can_be_cut_itself():
    _, core = cut(build(late_second_input))
    prefix, inner = cut(core)
    x = [np.ones((2, *tensor.shape[1:]), "float32") for tensor in core.inputs]
    np.testing.assert_array_equal(inner([*prefix(x).values()]), core(x))


# --- arrays -----------------------------------------------------------------------


class Marked(ArrayStore):
    """Gives out arrays that hold -99, so that rows nobody computed can be told."""

    def empty(self, shape, dtype):
        array = super().empty(shape, dtype)
        array[...] = -99
        return array


def rows_of(inputs, index=None):
    num_rows = len(next(iter(inputs.values())))
    return Rows(
        inputs,
        np.arange(num_rows, dtype="float32"),
        np.ones(num_rows, "float32"),
        np.arange(num_rows) if index is None else np.asarray(index),
    )


@every_network
def test_run_prefix_gives_what_the_prefix_gives_on_the_rows_asked_for(network):
    prefix, _ = cut(build(network))
    index = np.array([7, 0, 3])
    [rows] = run_prefix(prefix, [rows_of(X, index)], Marked())
    assert rows.index is index
    assert [*rows.inputs] == [*prefix.output]
    for name, tensor in prefix(X).items():
        array = rows.inputs[name]
        np.testing.assert_allclose(array[index], tensor.numpy()[index], rtol=1e-6)
        is_passed = any(np.shares_memory(array, x) for x in X.values())
        others = np.setdiff1d(np.arange(9), index)
        assert is_passed or (array[others] == -99).all()


def test_tensors_that_pass_unchanged_are_not_copied():
    prefix, _ = cut(build(late_second_input))
    [rows] = run_prefix(prefix, [rows_of(X)], ArrayStore())
    assert not any(np.shares_memory(x, X["a"]) for x in rows.inputs.values())
    prefix, _ = cut(build(nothing_frozen))
    [rows] = run_prefix(prefix, [rows_of(X)], ArrayStore())
    assert [*map(id, rows.inputs.values())] == [id(X["a"]), id(X["b"])]


def test_an_identity_that_is_called_twice_passes_both_tensors():
    inputs = {name: keras.Input((3,), name=name) for name in X}
    same = L.Identity()
    tensors = [L.Dense(2)(same(tensor)) for tensor in inputs.values()]
    prefix, _ = cut(keras.Model(inputs, L.Add()(tensors)))
    [rows] = run_prefix(prefix, [rows_of(X)], ArrayStore())
    assert [*map(id, rows.inputs.values())] == [id(X["a"]), id(X["b"])]


def test_a_prefix_runs_over_more_rows_than_pass_at_once(tmp_path):
    num_rows = MAX_CHUNK_ROWS + 4_464
    a = np.arange(3 * num_rows, dtype="float32").reshape(-1, 3) % 1000
    prefix, _ = cut(build(linear))
    index = np.random.default_rng(0).permutation(num_rows)[:-7]
    store = ArrayStore(tmp_path, budget_bytes=0)
    [rows] = run_prefix(prefix, [rows_of({"a": a, "b": a}, index)], store)
    (array,) = rows.inputs.values()
    assert isinstance(array, np.memmap)
    expected = (a - [1, 2, 3]) * [1, 0.5, 2]
    np.testing.assert_allclose(array[index], expected[index], rtol=1e-6)


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_a_prefix_of_16_bits_lies_in_files_and_comes_back_in_batches(
    mixed_precision, tmp_path
):
    model = build(mlp)
    prefix, core = cut(model)
    [rows] = run_prefix(prefix, [rows_of(X)], ArrayStore(tmp_path, budget_bytes=0))
    (array,) = rows.inputs.values()
    assert (type(array), array.dtype.name) == (DiskArray, "bfloat16")
    (block,) = Blocks(rows, 4, 8, seed=0).dataset()
    (tensor,) = block[0].values()
    assert tensor.dtype == "bfloat16"
    order = block[1].numpy().astype(int)
    np.testing.assert_array_equal(core([tensor]).numpy(), model(X).numpy()[order])


def test_tensors_keep_their_places_when_there_are_more_than_ten(tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((13,), name="a")
    parts = [L.Dense(1)(layers.Impute([0])(x[:, i : i + 1])) for i in range(13)]
    model = keras.Model(x, L.Concatenate()(parts))
    prefix, core = cut(model)
    a = np.arange(26, dtype="float32").reshape(2, 13)
    [rows] = run_prefix(prefix, [rows_of({"a": a})], ArrayStore())
    (block,) = Blocks(rows, 2, 8, seed=0).dataset()
    inputs = [block[0][tensor_name] for tensor_name in prefix.output]
    assert [*block[0]] == [*prefix.output] == [f"prefix_{i}" for i in range(13)]
    order = block[1].numpy().astype(int)
    np.testing.assert_allclose(core(inputs), model(a[order]), rtol=1e-6)


def test_rows_are_taken_by_position_among_themselves():
    inputs = {"a": np.arange(20).reshape(10, 2), "b": np.arange(10)}
    rows = Rows(inputs, np.arange(10) * 10, np.arange(10) / 10, np.array([9, 4, 6, 4]))
    taken, target, weight = rows.take(np.array([1, 0]))
    assert taken["a"].tolist() == [[8, 9], [18, 19]]
    assert (target.tolist(), weight.tolist()) == ([40, 90], [0.4, 0.9])
    assert (rows.targets.tolist(), rows.weights.tolist()) == (
        [90, 40, 60, 40],
        [0.9, 0.4, 0.6, 0.4],
    )
    chunks = [chunk["b"].tolist() for chunk in rows.chunks(3)]
    assert (chunks, len(rows)) == ([[9, 4, 6], [4]], 4)
