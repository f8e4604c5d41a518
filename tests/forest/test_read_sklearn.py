"""Forests of scikit-learn as flat arrays: the library's leaf for every row."""

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from kerastrain.errors import DataError
from kerastrain.forest.read_sklearn import (
    read_boosting,
    read_forest,
    read_hist_boosting,
)

NUM_ROWS, NUM_CLASSES = 600, 5
IS_CODE = np.array([False, True, False, False, True])


@pytest.fixture(scope="module")
def rows():
    """Tenths, so that float64 thresholds lie between float32 values and on them."""
    rng = np.random.default_rng(0)
    matrix = (rng.integers(-40, 40, (NUM_ROWS, 5)) / 10).astype("float32")
    matrix[:, 1] = rng.integers(0, 40, NUM_ROWS)
    matrix[:, 4] = rng.integers(0, 6, NUM_ROWS)
    matrix[:, 3] *= 1e-3
    effect = rng.normal(size=40)
    score = matrix[:, 0] + effect[matrix[:, 1].astype(int)] + np.sin(matrix[:, 2])
    score += rng.normal(size=NUM_ROWS) / 2
    return matrix, score


@pytest.fixture(scope="module")
def gaps(rows):
    """The same rows with missing numbers."""
    matrix = rows[0].copy()
    holes = np.random.default_rng(1).random(matrix.shape) < 0.2
    matrix[holes & [True, False, True, False, False]] = np.nan
    return matrix


def classes_of(score, count):
    return np.searchsorted(np.quantile(score, np.arange(1, count) / count), score)


def probes(matrix, trees):
    """Rows of the data; on, below and above thresholds; without any value."""
    rng = np.random.default_rng(2)
    rows = matrix[rng.integers(0, len(matrix), 1000)]
    nodes = rng.permutation(np.flatnonzero(np.isfinite(trees.threshold)))[:900]
    at = np.arange(len(nodes)), trees.feature[nodes]
    rows[at] = trees.threshold[nodes]
    side = rng.choice([-np.inf, np.inf, 0], len(nodes))
    rows[at] = np.where(side, np.nextafter(rows[at], side, dtype="float32"), rows[at])
    extremes = np.float32([[0.0], [np.nan], [3e38], [-3e38]]) * np.ones((1, 5), "f4")
    return np.concatenate([matrix, rows, extremes])


def library_leaves(model, matrix):
    return np.reshape(model.apply(matrix), (len(matrix), -1)).astype(int)


def our_leaves(trees, matrix):
    return trees.leaf[trees.leaves(matrix)]


@pytest.mark.parametrize("num_classes", [2, NUM_CLASSES, 0])
@pytest.mark.parametrize("kind", ["forest", "extra"])
@pytest.mark.parametrize("has_gaps", [False, True])
def test_a_row_ends_in_the_leaf_of_the_library(kind, num_classes, has_gaps, rows, gaps):
    forest, extra = RandomForestRegressor, ExtraTreesRegressor
    targets = rows[1]
    if num_classes:
        forest, extra = RandomForestClassifier, ExtraTreesClassifier
        targets = classes_of(targets, num_classes)
    model = (forest if kind == "forest" else extra)(8, random_state=0)
    model.fit(gaps if has_gaps else rows[0], targets)
    trees = read_forest(model)
    given = probes(gaps if has_gaps else rows[0], trees)
    assert np.array_equal(our_leaves(trees, given), library_leaves(model, given))
    expected = model.predict_proba(given) if num_classes else model.predict(given)
    outputs = trees.outputs(given)
    assert np.allclose(outputs, expected.reshape(outputs.shape), atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "num_classes"),
    [("log_loss", 2), ("log_loss", NUM_CLASSES), ("exponential", 2)]
    + [(loss, 0) for loss in ("squared_error", "absolute_error", "huber", "quantile")],
)
def test_boosted_trees_end_in_the_leaf_of_the_library(loss, num_classes, rows):
    matrix, score = rows
    kind = GradientBoostingClassifier if num_classes else GradientBoostingRegressor
    targets = classes_of(score, num_classes) if num_classes else score
    model = kind(loss=loss, n_estimators=6, random_state=0).fit(matrix, targets)
    trees = read_boosting(model)
    given = probes(matrix, trees)
    given = given[~np.isnan(given).any(axis=1)]
    assert np.array_equal(our_leaves(trees, given), library_leaves(model, given))
    score = model.decision_function(given) if num_classes else model.predict(given)
    outputs = trees.outputs(given)
    assert np.allclose(outputs, score.reshape(outputs.shape), atol=1e-5)


def test_a_missing_value_goes_where_what_stands_for_it_goes(rows, gaps):
    matrix, score = rows
    model = GradientBoostingRegressor(n_estimators=20, random_state=0)
    model.fit(matrix, score)
    fill = np.float32([0.1, 0, -0.3, 0.002, 0])
    filled = np.where(np.isnan(gaps), fill, gaps)
    ours = read_boosting(model, fill)
    assert np.array_equal(our_leaves(ours, gaps), library_leaves(model, filled))


def hist_leaves(model, matrix):
    """Numbers of nodes by a copy of the model whose leaves hold their own numbers."""
    known, index = model._bin_mapper.make_known_categories_bitsets()
    ready = model._preprocess_X(matrix, reset=False)
    found = []
    for predictor in (p for row in model._predictors for p in row):
        kept = predictor.nodes["value"].copy()
        predictor.nodes["value"] = np.arange(len(kept))
        found.append(predictor.predict(ready, known, index, 1))
        predictor.nodes["value"] = kept
    return np.stack(found, axis=1).astype(int)


@pytest.mark.parametrize("num_classes", [2, NUM_CLASSES, 0])
@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize("has_gaps", [False, True])
def test_histogram_trees_end_in_the_leaf_of_the_library(
    num_classes, is_native, has_gaps, rows, gaps
):
    matrix, score = gaps if has_gaps else rows[0], rows[1]
    kind = HistGradientBoostingRegressor
    if num_classes:
        kind, score = HistGradientBoostingClassifier, classes_of(score, num_classes)
    model = kind(
        max_iter=8,
        min_samples_leaf=3,
        random_state=0,
        categorical_features=IS_CODE if is_native else None,
    )
    seen = matrix[:, 1] < 33  # the last codes are unseen
    seen &= (matrix[:, 1] != 7) & (matrix[:, 4] != 2)  # and some between
    model.fit(matrix[seen], score[seen])
    trees = read_hist_boosting(model)
    given = probes(matrix, trees)
    if is_native:
        assert len(trees.sets)
        given = np.concatenate([given, given])
        codes = np.random.default_rng(0).choice([2, 7, 38, 250, 254], len(given) // 2)
        given[: len(codes), 1] = codes
        given[:, IS_CODE] = np.where(
            np.abs(given[:, IS_CODE]) < 300, np.floor(given[:, IS_CODE]), 299
        )
    assert np.array_equal(our_leaves(trees, given), hist_leaves(model, given))
    raw = model.decision_function(given) if num_classes else model.predict(given)
    outputs = trees.outputs(given)
    assert np.allclose(outputs, raw.reshape(outputs.shape), atol=1e-5)


def test_every_tree_of_many_classes_adds_to_its_own_class(rows):
    matrix, score = rows
    model = HistGradientBoostingClassifier(max_iter=3)
    trees = read_hist_boosting(model.fit(matrix, classes_of(score, NUM_CLASSES)))
    touched = [
        np.flatnonzero(np.abs(value).any(axis=0))
        for value in np.split(trees.value, trees.roots[1:])
    ]
    assert [one.tolist() for one in touched] == [[k] for k in range(NUM_CLASSES)] * 3


@pytest.mark.parametrize(
    ("categories", "shown"),
    [([0.5, 1.5], "0.5"), ([-1.0, 2.0], "-1.0"), (["a", "b"], "'a'")],
)
def test_categories_that_are_no_codes_are_refused(categories, shown):
    column = np.array(categories, object if shown == "'a'" else float)
    model = HistGradientBoostingRegressor(categorical_features=[0], max_iter=2)
    model.fit(np.tile(column, 40)[:, None], np.tile([0.0, 1.0], 40))
    expected = (
        f"Column 0 has categories that are not integers from 0 on, such as {shown}"
    )
    with pytest.raises(DataError, match=expected):
        read_hist_boosting(model)


def test_a_forest_of_several_targets_is_refused(rows):
    model = RandomForestRegressor(2).fit(rows[0], np.stack([rows[1], rows[1]], axis=1))
    with pytest.raises(DataError, match="fitted on 2 targets; fit one model for each"):
        read_forest(model)
