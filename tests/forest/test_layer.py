"""`Forest` finds the leaves that `Trees` finds."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastrain.forest import plan as plans
from kerastrain.forest.bits import cut
from kerastrain.forest.keys import Edges, keys_of
from kerastrain.forest.layer import Forest
from kerastrain.forest.plan import LAYOUTS
from kerastrain.forest.trees import Trees

NUM_COLUMNS, DENORMAL = 6, np.float32(1e-42)
# Some are thresholds too, so that equal values, both zeros and neighbours meet.
SPECIAL = np.array(
    [0, -0.0, 1, -1, 0.5, np.nextafter(np.float32(0.5), 1), 3, 3.4e38, -3.4e38]
    + [np.inf, -np.inf, np.finfo("float32").tiny, -np.finfo("float32").tiny, 2.9999],
    "float32",
)
DENORMALS = np.array([DENORMAL, -DENORMAL, 2 * DENORMAL, -2 * DENORMAL], "float32")


def grown(num_trees, num_leaves, *, num_sets=0, num_outputs=1, denormals=(), seed=0):
    """Random trees of any shape, where each split may be of any kind."""
    rng = np.random.default_rng(seed)
    thresholds = np.concatenate([SPECIAL, denormals, rng.normal(size=20)])
    rows, roots = [], []
    for _ in range(num_trees):
        roots.append(len(rows))
        rows.append([0, np.inf, len(rows), len(rows), False, -1])
        leaves = [roots[-1]]
        for _ in range(rng.integers(0, num_leaves) if num_leaves > 1 else 0):
            # At times the newest leaf, so that trees are deep and lean too.
            node = leaves.pop(-1 if rng.random() < 0.2 else rng.integers(len(leaves)))
            children = [len(rows), len(rows) + 1]
            in_set = (
                rng.integers(num_sets) if rng.random() < 0.5 * bool(num_sets) else -1
            )
            rows[node] = [rng.integers(NUM_COLUMNS), rng.choice(thresholds), *children]
            rows[node] += [rng.random() < 0.5, in_set]
            rows += [[0, np.inf, child, child, False, -1] for child in children]
            leaves += children
    types = ["int32", "float32", "int32", "int32", "bool", "int32"]
    fields = [
        np.array(c, t) for c, t in zip(zip(*rows, strict=True), types, strict=True)
    ]
    is_leaf = fields[2] == np.arange(len(rows))
    value = rng.normal(size=(len(rows), num_outputs)).astype("float32")
    return Trees(
        *fields,
        sets=rng.random((num_sets, 9)) < 0.5,
        value=np.where(is_leaf[:, None], value, 0),
        roots=np.array(roots, "int32"),
        base=np.arange(1, num_outputs + 1, dtype="float32"),
        leaf=np.where(is_leaf, np.arange(len(rows)), -1).astype("int32"),
    )


def values(num_rows=400, *, extra=(), seed=1):
    rng = np.random.default_rng(seed)
    pool = np.concatenate([SPECIAL, extra, [np.nan, np.nan], rng.normal(size=20)])
    pool = np.concatenate([pool, np.arange(-2, 12), [0.3, -0.3, 7.9, 1e9, 2**31]])
    return rng.choice(pool.astype("float32"), (num_rows, NUM_COLUMNS))


FORESTS = {
    "shallow": {"num_trees": 7, "num_leaves": 30},
    "of single leaves": {"num_trees": 3, "num_leaves": 1},
    "just a word deep": {"num_trees": 5, "num_leaves": 64},
    "deep": {"num_trees": 6, "num_leaves": 400},
    "with sets": {"num_trees": 7, "num_leaves": 30, "num_sets": 12},
    "deep with sets": {"num_trees": 6, "num_leaves": 300, "num_sets": 40},
    "of several outputs": {"num_trees": 5, "num_leaves": 90, "num_outputs": 3},
}


@pytest.fixture(scope="module", params=FORESTS)
def trees(request):
    return grown(**FORESTS[request.param])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_ends_in_the_same_leaves(trees, layout):
    x, forest = values(), Forest(trees, layout=layout)
    assert forest.layout == layout
    np.testing.assert_array_equal(forest.leaves(x), trees.leaves(x))
    np.testing.assert_allclose(forest(x), trees.outputs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["bits64", "bits32", "walk"])
def test_denormal_thresholds_and_values_are_told_from_zero(layout):
    trees = grown(20, 40, denormals=np.repeat(DENORMALS, 10))
    x = values(extra=np.repeat(DENORMALS, 10))
    forest = Forest(trees, layout=layout)
    run = tf.function(forest.leaves, autograph=False)
    np.testing.assert_array_equal(run(x), trees.leaves(x))


def test_the_plain_walk_is_exact_at_denormal_thresholds_for_normal_values():
    trees = grown(20, 40, denormals=np.repeat(DENORMALS, 10))
    run = tf.function(Forest(trees, layout="plain").leaves, autograph=False)
    np.testing.assert_array_equal(run(values()), trees.leaves(values()))


@pytest.mark.parametrize("num_rows", [0, 1, 16, 17, 32, 33, 95])
def test_a_batch_of_any_size_is_taken_in_chunks(num_rows):
    trees = grown(4, 100, num_outputs=2)
    forest, x = Forest(trees, chunk_size=64), values(num_rows)  # 16 rows at once
    run = tf.function(forest.call, autograph=False).get_concrete_function(
        tf.TensorSpec((None, NUM_COLUMNS), "float32")
    )
    assert run(tf.constant(x)).shape == (num_rows, 2)
    np.testing.assert_allclose(
        run(tf.constant(x)), trees.outputs(x), rtol=1e-5, atol=1e-5
    )


def one_output_each(outputs, num_outputs):
    """Trees that add to one output each; -1 for a tree that adds nothing."""
    trees = grown(len(outputs), 12)
    value = np.zeros((len(trees.left), num_outputs), "float32")
    ends = [*trees.roots[1:], len(trees.left)]
    for output, start, end in zip(outputs, trees.roots, ends, strict=True):
        if output >= 0:
            value[start:end, output] = trees.value[start:end, 0]
    named = trees.arrays() | {"value": value, "base": np.ones(num_outputs, "float32")}
    return Trees(**named)


@pytest.mark.parametrize(
    ("outputs", "groups"),
    [
        ([0, 1, 2, 0, 1, 2], 3),
        ([2, 2, 1, 0, 1, 0], 3),
        ([0, -1, 2, 0, 1, 2], 3),
        ([0, 1, 2, 0], 0),
    ],
)
def test_trees_of_one_output_each_are_summed_by_output(outputs, groups):
    trees, x = one_output_each(outputs, 3), values()
    forest = Forest(trees)
    assert [block["outputs"] for block in forest.numbers] == [groups]
    np.testing.assert_allclose(forest(x), trees.outputs(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(forest.leaves(x), trees.leaves(x))


@pytest.mark.slow
def test_a_saved_forest_gives_the_same_in_a_fresh_process(tmp_path, run_python):
    trees, x = grown(4, 70, num_sets=5), values()
    inputs = keras.Input((NUM_COLUMNS,))
    outputs = [Forest(trees, layout=layout)(inputs) for layout in LAYOUTS]
    model = keras.Model(inputs, keras.ops.concatenate(outputs, axis=1))
    model.save(tmp_path / "forest.keras")
    np.save(tmp_path / "x.npy", x)
    run_python(
        """if True:
        import sys, keras, numpy as np
        import kerastrain.forest.layer
        model = keras.saving.load_model(f"{sys.argv[1]}/forest.keras")
        y = model.predict_on_batch(np.load(f"{sys.argv[1]}/x.npy"))
        np.save(f"{sys.argv[1]}/y.npy", y)
        """,
        str(tmp_path),
    )
    expected = model.predict_on_batch(x)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


def test_a_config_and_weights_make_the_same_forest(tmp_path):
    trees, x = grown(6, 200, num_sets=10), values()
    forest = Forest(trees)
    again = Forest.from_config(forest.get_config())
    again.build((None, NUM_COLUMNS))
    again.set_weights(forest.get_weights())
    np.testing.assert_array_equal(again(x), forest(x))
    for name, array in again.trees.arrays().items():
        np.testing.assert_array_equal(array, trees.arrays()[name])
        assert array.dtype == trees.arrays()[name].dtype
    assert not forest.trainable_weights


def test_an_exported_forest_gives_the_same_for_any_batch(tmp_path):
    trees = grown(4, 100, num_sets=5)
    inputs = keras.Input((NUM_COLUMNS,))
    model = keras.Model(inputs, Forest(trees, chunk_size=400)(inputs))
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    for x in (values(1), values(333)):
        np.testing.assert_allclose(
            loaded.serve(x), trees.outputs(x), rtol=1e-5, atol=1e-5
        )


def test_xla_compiles_a_forest():
    trees, x = grown(6, 70, num_sets=4), values(20)
    forest = Forest(trees, layout="bits64", chunk_size=6 * 16)
    run = tf.function(forest.call, jit_compile=True, autograph=False)
    np.testing.assert_allclose(run(x), trees.outputs(x), rtol=1e-5, atol=1e-5)


def test_mixed_precision_does_not_touch_a_forest():
    trees, x = grown(6, 100), values(100)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        forest = Forest(trees)
        np.testing.assert_allclose(forest(x), trees.outputs(x), rtol=1e-5, atol=1e-5)
    finally:
        keras.config.set_dtype_policy("float32")


def test_the_plain_copy_has_the_same_leaves():
    trees, x = grown(6, 100, num_sets=10), values(100)
    plain = Forest(trees, name="mine").plain()
    assert (plain.layout, plain.name) == ("plain", "mine")
    np.testing.assert_array_equal(plain.leaves(x), trees.leaves(x))


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_trees_are_dealt_to_blocks_where_one_table_would_be_too_large(
    num_outputs, monkeypatch, tmp_path
):
    monkeypatch.setattr(plans, "_LEAST_TREES", 2)
    trees, x = one_output_each([0, 1, 2] * 4, 3), values()
    trees = trees if num_outputs == 3 else grown(11, 90, num_sets=4)
    whole = Forest(trees)
    table = whole.shapes["block_0"]["open"]
    assert len(whole.numbers) == 1
    num_bytes = np.prod(table[1]) * np.dtype(table[0]).itemsize
    monkeypatch.setattr(plans, "MOST_TABLE_BYTES", int(0.8 * num_bytes))
    monkeypatch.setattr(plans, "_COLUMN_NS", {64: 0.9})
    forest = Forest(trees, layout="auto")
    assert forest.layout == "bits64" and len(forest.numbers) > 1
    np.testing.assert_array_equal(forest.leaves(x), trees.leaves(x))
    np.testing.assert_allclose(forest(x), trees.outputs(x), rtol=1e-5, atol=1e-5)
    inputs = keras.Input((NUM_COLUMNS,))
    keras.Model(inputs, forest(inputs)).save(tmp_path / "forest.keras")
    again = keras.saving.load_model(tmp_path / "forest.keras")
    np.testing.assert_array_equal(again.predict_on_batch(x), forest(x))


def unshared(trees):
    """The same trees, where no two nodes have the same threshold."""
    own = np.random.default_rng(0).normal(size=len(trees.left)).astype("float32")
    threshold = np.where(trees.is_leaf, np.inf, own).astype("float32")
    return Trees(**trees.arrays() | {"threshold": threshold})


@pytest.mark.parametrize("rounds", [3, 7])
def test_a_block_has_a_tree_of_each_output(rounds, monkeypatch):
    monkeypatch.setattr(plans, "_SMALL_BYTES", 10)
    num_outputs = 60
    trees = one_output_each([*range(num_outputs)] * rounds, num_outputs)
    trees, x = unshared(trees), values()
    monkeypatch.setattr(plans, "_MANY_TREES", 1)
    forest = Forest(trees)
    assert all(block["trees"] >= num_outputs for block in forest.numbers)
    np.testing.assert_allclose(forest(x), trees.outputs(x), rtol=1e-5, atol=1e-5)


def test_more_blocks_than_are_needed_save_space_where_trees_are_many(monkeypatch):
    monkeypatch.setattr(plans, "_SMALL_BYTES", 10)
    monkeypatch.setattr(plans, "_MANY_TREES", 10)
    trees, x = unshared(grown(40, 20)), values()
    forest = Forest(trees)
    assert [block["trees"] for block in forest.numbers] == [10] * 4
    np.testing.assert_array_equal(forest.leaves(x), trees.leaves(x))
    monkeypatch.setattr(plans, "_MANY_TREES", 41)
    assert len(Forest(trees).numbers) == 1


@pytest.mark.parametrize(("num_bytes", "layout"), [(2**27, "bits64"), (10, "walk")])
def test_tables_stay_within_their_limit(num_bytes, layout, monkeypatch):
    monkeypatch.setattr(plans, "MOST_TABLE_BYTES", num_bytes)
    assert Forest(grown(10, 60)).layout == layout


def test_what_does_not_fit_into_packed_nodes_is_walked_plainly(monkeypatch):
    monkeypatch.setattr("kerastrain.forest.walk._MOST_SET_BYTES", 10)
    trees, x = grown(6, 200, num_sets=10), values(50)
    forest = Forest(trees, layout="walk")
    assert forest.layout == "plain"
    np.testing.assert_array_equal(forest.leaves(x), trees.leaves(x))


@pytest.mark.parametrize("word", [1, 32, 64])
def test_a_cut_leaves_as_few_steps_as_its_exits_allow(word):
    trees = grown(8, 300)
    top = cut(trees, word)
    exits = (top.exits >= 0).sum(axis=1)
    assert exits.max() <= word
    assert top.steps < trees.depths().max() or word == 1


def test_keys_are_in_the_order_of_the_numbers():
    numbers = np.sort(np.concatenate([SPECIAL, DENORMALS]))
    keys = keys_of(numbers)
    np.testing.assert_array_equal(np.diff(keys) > 0, numbers[1:] > numbers[:-1])


def test_a_column_of_sets_has_edges_only_where_membership_changes():
    trees = grown(1, 30, num_sets=1)
    sets = np.array([[False, True, True, False, False, False]])
    only_sets = np.where(trees.is_leaf, -1, 0).astype("int32")
    named = trees.arrays() | {"sets": sets, "in_set": only_sets}
    edges = Edges.of(Trees(**named), np.flatnonzero(~trees.is_leaf))
    assert set(edges.counts) == {2}  # below 1 and below 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({}, "Forest needs trees"), ({"layout": "bit"}, "Forest has no layout 'bit'")],
)
def test_a_forest_refuses_what_it_cannot_be(arguments, message):
    trees = grown(1, 3) if arguments else None
    with pytest.raises(ValueError, match=message):
        Forest(trees, **arguments)
