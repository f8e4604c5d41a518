"""Models of the boosting libraries as flat arrays: the same leaf for every row."""

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from kerastrain.errors import ConfigError
from kerastrain.forest import read_lightgbm as reader
from kerastrain.forest.join import below32, floor32, joined, one_leaf
from kerastrain.forest.read_catboost import read_catboost
from kerastrain.forest.read_lightgbm import read_lightgbm
from kerastrain.forest.read_xgboost import read_xgboost
from kerastrain.forest.trees import NO_SET

NUM_ROWS, FEW, MANY = 1000, 5, 60
KINDS = ["q", "q", "q", "q", "c", "c"]


@pytest.fixture(scope="module")
def rows():
    """Tenths, gaps, zeros, and two columns of codes; a score that depends on them."""
    rng = np.random.default_rng(0)
    numbers = (rng.integers(-40, 40, (NUM_ROWS, 4)) / 10).astype("float32")
    codes = np.stack([rng.integers(0, FEW, NUM_ROWS), rng.integers(0, MANY, NUM_ROWS)])
    score = numbers[:, 0] + numbers[:, 1] ** 2 + codes[1] % 3 + 2 * (codes[0] == 3)
    numbers[::7, 0] = np.nan
    numbers[::5, 1] = 0
    numbers[:, 3] *= 1e-3
    return np.column_stack([numbers, codes.T]).astype("float32"), score


def classes_of(score, count):
    return np.searchsorted(np.quantile(score, np.arange(1, count) / count), score)


def probes(matrix, trees):
    """Rows of the data; on, below and above thresholds; gaps; codes of no train row."""
    rng = np.random.default_rng(2)
    nodes = rng.permutation(np.flatnonzero(np.isfinite(trees.threshold)))[:500]
    nodes = nodes[~trees.is_leaf[nodes]]
    more = matrix[rng.integers(0, len(matrix), 3 * len(nodes) + 300)].copy()
    for i, towards in enumerate((None, -np.inf, np.inf)):
        at = trees.threshold[nodes]
        if towards is not None:
            with np.errstate(over="ignore"):
                at = np.nextafter(at, np.float32(towards))
        is_fine = np.isfinite(at) & (np.abs(at) >= np.finfo("float32").tiny)
        at = np.where(is_fine, at, 0)
        more[np.arange(len(nodes)) * 3 + i, trees.feature[nodes]] = at
    more[:, 4:] = np.trunc(more[:, 4:])
    more[-100:, :4][rng.random((100, 4)) < 0.5] = np.nan
    more[-200:-100, 4] = rng.integers(0, FEW + 2, 100)
    more[-200:-100, 5] = rng.integers(0, MANY + 90, 100)
    return np.concatenate([matrix, more])


def check(trees, matrix, leaves, raw):
    """The library's own leaf for every row and tree, and its raw scores."""
    found = trees.leaf[trees.leaves(matrix)]
    np.testing.assert_array_equal(found, np.reshape(leaves, found.shape))
    outputs = trees.outputs(matrix)
    np.testing.assert_allclose(outputs, np.reshape(raw, outputs.shape), atol=1e-5)


# --- LightGBM ---------------------------------------------------------------------


def lightgbm_of(rows, rounds=12, num_classes=2, **options):
    matrix, score = rows
    options = {"objective": "binary", "num_leaves": 16, "verbosity": -1} | options
    options |= {"num_threads": 1, "min_data_per_group": 5}
    is_class = options["objective"] in ("binary", "multiclass")
    target = classes_of(score, num_classes) if is_class else score / 10
    data = lightgbm.Dataset(matrix, target, categorical_feature=[4, 5])
    return lightgbm.train(options, data, rounds)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "multiclass", "num_class": 7, "num_classes": 7, "rounds": 4},
        {"objective": "regression_l1"},
        {"objective": "huber"},
        {"use_missing": False},
        {"zero_as_missing": True},
        {"boosting": "dart"},
        {"max_cat_to_onehot": 100},
        {"min_data_in_leaf": 100_000},  # no split at all
    ],
    ids=str,
)
def test_a_lightgbm_model_ends_in_its_own_leaves(rows, options):
    booster = lightgbm_of(rows, **options)
    trees = read_lightgbm(booster)
    matrix = probes(rows[0], trees)
    leaves = booster.predict(matrix, pred_leaf=True)
    check(trees, matrix, leaves, booster.predict(matrix, raw_score=True))


def test_a_random_forest_of_lightgbm_is_the_mean_of_its_trees(rows):
    booster = lightgbm_of(rows, boosting="rf", bagging_freq=1, bagging_fraction=0.7)
    trees = read_lightgbm(booster)
    matrix = probes(rows[0], trees)
    # Its own raw scores are sums; the probabilities come from means.
    raw = booster.predict(matrix)
    check(
        trees, matrix, booster.predict(matrix, pred_leaf=True), np.log(raw / (1 - raw))
    )


def test_lightgbm_trees_are_those_of_the_best_round(rows):
    booster = lightgbm_of(rows)
    booster.best_iteration = 5
    assert len(read_lightgbm(booster).roots) == 5


def test_linear_leaves_of_lightgbm_are_refused(rows):
    matrix, score = rows
    booster = lightgbm.train(
        {"linear_tree": True, "verbosity": -1, "num_threads": 1},
        lightgbm.Dataset(matrix[:, :4], score, params={"linear_tree": True}),
        2,
    )
    with pytest.raises(ConfigError, match="train it with linear_tree=False"):
        read_lightgbm(booster)


def test_zero_as_missing_that_would_grow_too_large_is_refused(rows, monkeypatch):
    monkeypatch.setattr(reader, "_MOST_NODES", 10)
    booster = lightgbm_of(rows, zero_as_missing=True)
    with pytest.raises(ConfigError, match="zero_as_missing=False"):
        read_lightgbm(booster)


# --- XGBoost ----------------------------------------------------------------------


def xgboost_matrix(matrix, **beside):
    return xgboost.DMatrix(
        matrix, feature_types=KINDS, enable_categorical=True, **beside
    )


def xgboost_of(rows, rounds=12, num_classes=2, **options):
    matrix, score = rows
    options = {"objective": "binary:logistic", "max_depth": 5, "nthread": 1} | options
    is_class = options["objective"].split(":")[0] in ("binary", "multi")
    target = classes_of(score, num_classes) if is_class else score / 10 + 1
    return xgboost.train(options, xgboost_matrix(matrix, label=target), rounds)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "objective": "multi:softprob",
            "num_class": 7,
            "num_classes": 7,
            "rounds": 4,
        },
        {"objective": "reg:absoluteerror"},
        {"objective": "reg:pseudohubererror"},
        {"objective": "count:poisson"},
        {"booster": "dart", "rate_drop": 0.3},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"max_cat_to_onehot": 100},
        {"grow_policy": "lossguide", "max_leaves": 9},
    ],
    ids=str,
)
def test_an_xgboost_model_ends_in_its_own_leaves(rows, options):
    booster = xgboost_of(rows, **options)
    trees = read_xgboost(booster)
    matrix = probes(rows[0], trees)
    data = xgboost_matrix(matrix)
    leaves = booster.predict(data, pred_leaf=True)
    check(trees, matrix, leaves, booster.predict(data, output_margin=True))


def test_xgboost_trees_are_those_of_the_best_round(rows):
    booster = xgboost_of(rows)
    booster.set_attr(best_iteration="4")
    assert len(read_xgboost(booster).roots) == 5


def test_a_linear_booster_is_refused(rows):
    matrix, score = rows
    data = xgboost.DMatrix(matrix[:, 1:4], label=score)
    booster = xgboost.train(
        {"booster": "gblinear", "nthread": 1, "verbosity": 0}, data, 1
    )
    with pytest.raises(ConfigError, match="booster='gbtree'"):
        read_xgboost(booster)


def test_vectors_in_leaves_are_refused(rows):
    matrix, score = rows
    data = xgboost.DMatrix(matrix[:, :4], label=np.column_stack([score, -score]))
    options = {"multi_strategy": "multi_output_tree", "tree_method": "hist"}
    booster = xgboost.train(options | {"nthread": 1, "verbosity": 0}, data, 2)
    with pytest.raises(ConfigError, match="multi_strategy='one_output_per_tree'"):
        read_xgboost(booster)


# --- CatBoost ---------------------------------------------------------------------


def catboost_pool(matrix, target=None):
    frame = pd.DataFrame(matrix[:, :5], columns=list("abcde"))
    frame["e"] = frame["e"].astype("int64")
    return catboost.Pool(frame, target, cat_features=["e"])


def catboost_of(rows, num_classes=2, **options):
    matrix, score = rows
    options = {"loss_function": "Logloss", "iterations": 12, "depth": 4} | options
    is_class = options["loss_function"] in ("Logloss", "MultiClass")
    target = classes_of(score, num_classes) if is_class else score
    model = catboost.CatBoost(
        {"one_hot_max_size": 10, "thread_count": 1, "allow_writing_files": False}
        | options
    )
    return model.fit(catboost_pool(matrix, target), verbose=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss_function": "MultiClass", "num_classes": 7},
        {"loss_function": "MAE"},
        {"loss_function": "Huber:delta=1"},
        {"nan_mode": "Max"},
        {"depth": 1, "iterations": 3},
        {"rsm": 0.2, "random_seed": 5},
    ],
    ids=str,
)
def test_a_catboost_model_ends_in_its_own_leaves(rows, options):
    model = catboost_of(rows, **options)
    trees = read_catboost(model, [FEW + 2])
    matrix = probes(rows[0], trees)
    pool = catboost_pool(matrix)
    leaves = model.calc_leaf_indexes(pool)
    check(trees, matrix, leaves, model.predict(pool, prediction_type="RawFormulaVal"))


def test_the_code_of_every_one_hot_split_is_found(rows):
    matrix, score = rows
    by_code = np.array([3, 0, 2, 1, 4])[matrix[:, 4].astype(int)]
    model = catboost_of((matrix, by_code + score / 1e4), loss_function="RMSE", depth=3)
    assert (read_catboost(model, [FEW]).in_set >= 0).sum() > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grow_policy": "Depthwise"}, "grow_policy='SymmetricTree'"),
        ({"one_hot_max_size": 2}, "raise one_hot_max_size"),
    ],
)
def test_what_no_forest_of_comparisons_holds_is_refused(rows, options, message):
    model = catboost_of(rows, **options)
    with pytest.raises(ConfigError, match=message):
        read_catboost(model, [FEW + 2])


# --- thresholds -------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.1, -0.1, 0.0, 1e-40, -1e-40, 1e300, -1e300, 2.5])
def test_thresholds_part_float32_values_as_float64_does(limit):
    near = np.float32(np.clip(limit, -3e38, 3e38))
    values = np.nextafter(near, np.array([-np.inf, near, np.inf], "float32"))
    is_normal = (np.abs(values) >= np.finfo("float32").tiny) | (values == 0)
    values = np.append(values[is_normal], np.float32([0, -3e38, 3e38]))
    expected = values.astype("float64") <= limit
    np.testing.assert_array_equal(values <= floor32(np.array(limit)), expected)


@pytest.mark.parametrize("limit", [0.1, 0.0, -7.5, 3.4e38, -3.4028235e38])
def test_below_is_what_less_than_means(limit):
    limit = np.float32(limit)
    values = np.float32([limit, 0, 1e-37, -1e-37, 3e38, -3e38])
    values = np.append(values, np.nextafter(limit, np.float32([-1e38, 1e38])))
    values = values[(np.abs(values) >= np.finfo("float32").tiny) | (values == 0)]
    below = below32(np.array(limit))
    np.testing.assert_array_equal(values <= below, values < limit)


def test_no_trees_are_one_leaf():
    base = np.array([1.0, -2.0])
    for trees in (one_leaf(base), joined([], base)):
        assert trees.in_set.tolist() == [NO_SET]
        assert trees.outputs(np.zeros((2, 1), "float32")).tolist() == [[1, -2]] * 2
