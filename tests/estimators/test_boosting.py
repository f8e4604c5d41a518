"""LightGBM, XGBoost and CatBoost: what they learn, and the same as Keras layers."""

import time

import keras
import numpy as np
import pytest
from numeric_core import core_of, outputs_of
from sklearn.metrics import log_loss

from kerastrain.boosting import Stop, rounds_that_fit
from kerastrain.encodings import (
    TargetEncoding,
    fit_target_encoding,
    looked_up,
    target_columns,
)
from kerastrain.errors import ConfigError
from kerastrain.estimator import Examples, Setting, matrix_of
from kerastrain.estimators import ESTIMATORS
from kerastrain.events import recording
from kerastrain.features import NumberStatistics
from kerastrain.kernels import LEAST_LOGIT

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NUM_ROWS, NUM_TRAIN = 600, 400
SIZES = (6, 60)
NAMES = ("lightgbm", "xgboost", "catboost")
LOSSES = {"regression": "mse"}
every_library = pytest.mark.parametrize("name", NAMES)
every_task = pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])


@pytest.fixture(scope="module")
def table():
    """Numbers with gaps and one column without any value, codes, and a hidden score."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(NUM_ROWS, 4)).astype("float32").round(1)
    codes = np.stack([rng.integers(0, size - 1, NUM_ROWS) for size in SIZES], axis=1)
    score = 2 * numbers[:, 0] + (codes[:, 0] - 2.5) + codes[:, 1] % 2
    score += rng.normal(size=NUM_ROWS) / 3
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    numbers[:, 3] = np.nan
    return numbers, codes.astype("int32"), score


def examples(table, task, rows=slice(NUM_TRAIN), *, numbers=True, codes=True):
    """Of three classes; where there are five the first and the last have no row."""
    score = table[2]
    classes = np.searchsorted(np.quantile(score, [0.4, 0.7]), score)
    targets = {
        "binary": np.minimum(classes, 1),
        "multiclass": classes + 1,
        "regression": ((score - score.mean()) / score.std()).astype("float32"),
    }[task]
    return Examples(
        table[0][rows] if numbers else table[0][rows, :0],
        table[1][rows] if codes else table[1][rows, :0],
        targets[rows],
    )


def setting_of(train, task, **options):
    statistics = NumberStatistics.of(train.numbers, np.arange(len(train)))
    classes = {"binary": 2, "multiclass": 5, "regression": 0}[task]
    options = {"loss": LOSSES.get(task, "cross_entropy")} | options
    sizes = SIZES[: train.codes.shape[1]]
    return Setting(task, classes, sizes, statistics, **options)


def learnt(name, train, validation, task, options=None, **setting):
    options = {"rounds": 12, "learning_rate": 0.3} | (options or {})
    estimator = ESTIMATORS.load(name)(**options)
    return estimator, estimator.learn(
        train, validation, setting_of(train, task, **setting)
    )


def on(table, task, name, options=None, **setting):
    train = examples(table, task)
    validation = examples(table, task, slice(NUM_TRAIN, NUM_ROWS))
    return learnt(name, train, validation, task, options, **setting)


def check_layers(estimator, given):
    """Layers and library agree, on codes and gaps that no train row had too."""
    scores = estimator.scores(given.numbers, given.codes)
    assert scores.shape == (len(given), estimator.setting_.num_outputs)
    assert scores.dtype == "float32"
    core = core_of(estimator)
    np.testing.assert_allclose(outputs_of(core, given), scores, rtol=1e-5, atol=1e-5)
    return core, scores


def check_skill(estimator, task, given):
    scores = estimator.scores(given.numbers, given.codes)
    if task == "multiclass":
        assert (scores[:, [0, 4]] == LEAST_LOGIT).all()
        assert (scores.argmax(axis=1) == given.targets).mean() > 0.6
    elif task == "binary":
        chance = 1 / (1 + np.exp(-scores[:, 0].astype("float64")))
        assert log_loss(given.targets, chance) < 0.45
    else:
        assert np.mean((scores[:, 0] - given.targets) ** 2) < 0.3


def odd_rows(table, task):
    given = examples(table, task, slice(NUM_TRAIN, NUM_ROWS))
    given.numbers[::3, 1] = np.nan
    given.numbers[::4, 0] = 0
    given.codes[::5, 0] = SIZES[0] - 1
    given.codes[::7, 1] = SIZES[1] - 1
    return Examples(given.numbers, given.codes, given.targets)


# --- learning ---------------------------------------------------------------------


@every_library
@every_task
def test_it_learns_and_its_layers_give_the_same(table, name, task, tmp_path):
    given = odd_rows(tuple(part.copy() for part in table), task)
    estimator, fitted = on(table, task, name)
    assert fitted.rounds > 3
    assert not fitted.is_cut_short
    check_skill(estimator, task, examples(table, task, slice(NUM_TRAIN, NUM_ROWS)))
    core, _ = check_layers(estimator, given)
    core.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs_of(again, given), outputs_of(core, given))


@every_library
def test_every_row_ends_in_the_leaf_of_the_library(table, name):
    given = odd_rows(tuple(part.copy() for part in table), "multiclass")
    estimator, _ = on(table, "multiclass", name)
    model = estimator.model_
    matrix = matrix_of(given.numbers, given.codes)
    if name == "lightgbm":
        leaves = model.predict(matrix, pred_leaf=True)
    elif name == "xgboost":
        kinds = ["q"] * 4 + ["c"] * 2
        xgboost = pytest.importorskip("xgboost")
        data = xgboost.DMatrix(matrix, feature_types=kinds, enable_categorical=True)
        leaves = model.predict(data, pred_leaf=True)
    else:
        pool = estimator._pool(given.numbers, given.codes)
        leaves = model.calc_leaf_indexes(pool)
        matrix = np.hstack([matrix, estimator.means_.numbers(given.codes)])
    trees = estimator.trees_
    np.testing.assert_array_equal(trees.leaf[trees.leaves(matrix)], leaves)


@every_library
@pytest.mark.parametrize("kinds", [{"numbers": False}, {"codes": False}], ids=str)
def test_columns_of_one_kind_will_do(table, name, kinds):
    train = examples(table, "binary", **kinds)
    estimator, _ = learnt(name, train, train, "binary")
    check_layers(estimator, train)


@every_library
@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("present", [[0], [1], [0, 1]])
def test_classes_without_a_train_row_do_not_break_it(table, name, task, present):
    whole = examples(table, task, slice(60))
    labels = np.array(present)[np.arange(60) % len(present)]
    train = Examples(whole.numbers, whole.codes, labels)
    estimator, _ = learnt(name, train, whole, task, {"rounds": 3})
    _, scores = check_layers(estimator, whole)
    chances = np.exp(
        scores if task == "multiclass" else np.hstack([0 * scores, scores])
    )
    chances /= chances.sum(axis=1, keepdims=True)
    assert (chances[:, present].sum(axis=1) > 0.999999).all()


@every_library
@every_task
def test_two_rows_and_no_validation_rows_do_not_break_it(table, name, task):
    whole = examples(table, task, slice(2))
    targets = np.array([0, 1], whole.targets.dtype)
    train = Examples(whole.numbers, whole.codes, targets)
    none = Examples(whole.numbers[:0], whole.codes[:0], targets[:0])
    estimator, fitted = learnt(name, train, none, task, {"rounds": 4})
    assert fitted.rounds in (0, 4)
    check_layers(estimator, examples(table, task))


@every_library
def test_columns_that_never_change_give_the_prior(table, name):
    whole = examples(table, "binary")
    train = Examples(
        np.ones_like(whole.numbers), np.zeros_like(whole.codes), whole.targets
    )
    estimator, _ = learnt(name, train, train, "binary", {"rounds": 50})
    _, scores = check_layers(estimator, train)
    share = whole.targets.mean()
    np.testing.assert_allclose(scores[:, 0], np.log(share / (1 - share)), atol=0.1)


@every_library
def test_a_target_that_never_changes_is_given_back(table, name):
    whole = examples(table, "regression")
    train = Examples(whole.numbers, whole.codes, np.full(len(whole), 0.5, "float32"))
    estimator, _ = learnt(name, train, train, "regression")
    _, scores = check_layers(estimator, train)
    np.testing.assert_allclose(scores, 0.5, atol=1e-5)


@every_library
@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_robust_losses_shrug_off_an_outlier(table, name, loss):
    whole = examples(table, "regression")
    targets = whole.targets.copy()
    targets[::40] = 1000
    train = Examples(whole.numbers, whole.codes, targets)
    # Of Huber, LightGBM begins at the mean, and a round moves it by the rate at most.
    rounds = {"rounds": 120 if loss == "huber" else 12}
    estimator, _ = learnt(name, train, train, "regression", rounds, loss=loss)
    scores = np.abs(estimator.scores(whole.numbers, whole.codes))
    assert np.quantile(scores, 0.9) < 5
    check_layers(estimator, whole)


@every_library
def test_the_focal_loss_is_replaced_and_that_is_told(table, name):
    with recording() as recorder:
        on(table, "binary", name, loss="focal")
    (event,) = recorder.events
    assert event.code == "loss_replaced"
    assert "has no focal loss; cross-entropy replaces it." in event.message


# --- weights, chance, time --------------------------------------------------------


@every_library
def test_rows_of_weight_0_count_as_no_rows(table, name):
    whole = examples(table, "binary")
    weight = np.where(np.arange(len(whole)) < 300, 2.0, 0.0).astype("float32")
    part = Examples(whole.numbers[:300], whole.codes[:300], whole.targets[:300])
    weighted = Examples(whole.numbers, whole.codes, whole.targets, weight)
    twice = Examples(part.numbers, part.codes, part.targets, weight[:300])
    scores = [
        learnt(name, train, part, "binary")[0].scores(whole.numbers, whole.codes)
        for train in (weighted, twice)
    ]
    np.testing.assert_array_equal(*scores)


@every_library
def test_a_weight_moves_the_prediction(table, name):
    whole = examples(table, "binary")
    weight = np.where(whole.targets == 1, 20.0, 1.0).astype("float32")
    heavy = Examples(whole.numbers, whole.codes, whole.targets, weight)
    probe = whole.numbers, whole.codes
    light, heavy = (
        learnt(name, train, train, "binary", {"rounds": 3})[0].scores(*probe)
        for train in (whole, heavy)
    )
    assert heavy.mean() > light.mean() + 0.5


@every_library
def test_the_seed_decides_all_chance(table, name):
    one, again, other = (on(table, "binary", name, seed=s)[0] for s in (1, 1, 2))
    probe = examples(table, "binary")
    scores = [e.scores(probe.numbers, probe.codes) for e in (one, again, other)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 1e-3


@every_library
def test_it_stops_when_validation_gets_no_better_and_keeps_the_best(table, name):
    options = {"rounds": 200, "patience": 5, "learning_rate": 1.0}
    estimator, fitted = on(table, "binary", name, options)
    assert 1 <= fitted.rounds < 100
    assert len(estimator.trees_.roots) == fitted.rounds
    check_layers(estimator, examples(table, "binary"))


@every_library
def test_it_is_silent(table, name, capfd):
    on(table, "multiclass", name)
    assert capfd.readouterr() == ("", "")


@every_library
def test_it_ends_in_time_with_what_it_has(table, name):
    start = time.monotonic()
    options = {"rounds": 1_000_000, "patience": 1_000_000, "learning_rate": 1e-4}
    estimator, fitted = on(table, "binary", name, options, seconds=0.3)
    assert fitted.is_cut_short
    assert fitted.rounds > 1
    assert time.monotonic() - start < 10  # and not minutes, on a machine that is busy
    check_layers(estimator, examples(table, "binary"))


@pytest.mark.parametrize(
    ("losses", "rounds"), [([3, 2, 1, 2, 2, 0], 3), ([1, 1, 1], 1), ([np.nan, 2, 1], 3)]
)
def test_the_round_of_the_lowest_loss_is_kept(losses, rounds):
    stop = Stop(len(losses), 2, None)
    for done, loss in enumerate(losses, 1):
        if stop.after(done, loss):
            break
    assert stop.num_rounds == rounds
    assert not stop.is_cut_short


@pytest.mark.parametrize(
    ("seconds", "rate", "raised"),
    [
        (400.0, 0.05, 0.1),  # 400 rounds of 1 s fit, and 40 is where it should come to
        (100.0, 0.05, 0.25),  # never above this
        (4_000.0, 0.05, None),  # there is time enough
        (100.0, 0.5, None),  # who asks for more keeps it
        (None, 0.05, None),
    ],
)
def test_a_rate_is_raised_where_the_time_is_short(monkeypatch, seconds, rate, raised):
    clock = iter(np.arange(0, 1e6, 0.5))  # two looks a round
    monkeypatch.setattr("kerastrain.boosting.time.monotonic", lambda: next(clock))
    stop = Stop(1_000, 1_000, seconds)
    asked = []
    for done in range(1, 30):
        assert not stop.after(done, 1 / done)
        asked.append(stop.paced(done, rate))
    found = [value for value in asked if value is not None]
    assert found == ([] if raised is None else [pytest.approx(raised, rel=0.1)])


@every_library
def test_rounds_after_it_learn_at_the_raised_rate(table, name, monkeypatch):
    options = {"rounds": 20, "learning_rate": 1e-4}
    slow, _ = on(table, "regression", name, options)
    monkeypatch.setattr(
        Stop, "paced", lambda _, done, rate: 0.25 if done == 2 and rate < 0.25 else None
    )
    fast, fitted = on(table, "regression", name, options)
    numbers, codes, _ = table
    assert np.ptp(slow.scores(numbers, codes)) < 0.05
    assert np.ptp(fast.scores(numbers, codes)) > 1
    assert fitted.rounds > 2
    check_layers(fast, examples(table, "regression"))


# --- options ----------------------------------------------------------------------


@every_library
@pytest.mark.parametrize("way", [1, -1])
def test_a_prediction_rises_or_falls_with_a_monotone_column(table, name, way):
    estimator, _ = on(table, "binary", name, {"monotone": {1: way}, "rounds": 30})
    numbers, codes = (part[:40].copy() for part in table[:2])
    steps = []
    for value in np.linspace(-3, 3, 25):
        numbers[:, 1] = value
        steps.append(estimator.scores(numbers, codes))
    assert (way * np.diff(steps, axis=0) >= -1e-6).all()


@every_library
@pytest.mark.parametrize(
    ("monotone", "task", "message"),
    [
        ({4: 1}, "binary", "no column 4. Columns of numbers: 0 to 3"),
        ({0: 2}, "binary", "column 0 has 2; it takes 1"),
        ({0: 1}, "multiclass", "more than two classes"),
    ],
)
def test_a_constraint_that_cannot_be_kept_is_refused(
    table, name, monotone, task, message
):
    with pytest.raises(ConfigError, match=message):
        on(table, task, name, {"monotone": monotone})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lightgbm", {"feature_fraction": -1}),
        ("xgboost", {"max_depth": -1}),
        ("catboost", {"no_such": 1}),
    ],
)
def test_what_the_library_refuses_is_one_line(table, name, parameters):
    with pytest.raises(ConfigError, match="cannot fit: .+") as caught:
        on(table, "binary", name, {"parameters": parameters})
    assert "\n" not in str(caught.value)


@every_library
def test_further_parameters_reach_the_library(table, name):
    key = {"lightgbm": "max_depth", "xgboost": "max_leaves", "catboost": "depth"}[name]
    value = {"lightgbm": 1, "xgboost": 2, "catboost": 1}[name]
    more = {"grow_policy": "lossguide"} if name == "xgboost" else {}
    estimator, _ = on(table, "binary", name, {"parameters": {key: value} | more})
    assert estimator.trees_.is_leaf.sum() <= 2 * len(estimator.trees_.roots)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "hist_gradient_boosting"])
@every_task
def test_a_column_of_many_codes_is_means_of_the_target_too(table, name, task):
    given = odd_rows(tuple(part.copy() for part in table), task)
    estimator, _ = on(table, task, name, {"target_encoding": 20})
    assert estimator.means_.columns.tolist() == [1]  # the one of 60 codes
    first = matrix_of(given.numbers, given.codes).shape[1]
    assert (estimator.trees_.feature >= first).any()
    has_codes = (estimator.trees_.feature == first - 1).any()
    assert not (name == "xgboost" and has_codes)
    check_layers(estimator, given)
    check_skill(estimator, task, examples(table, task, slice(NUM_TRAIN, NUM_ROWS)))
    assert not estimator.splits_like(estimator)


def test_no_column_is_means_unless_it_has_so_many_codes(table):
    for option in (60, None):
        estimator, _ = on(table, "binary", "xgboost", {"target_encoding": option})
        assert estimator.means_ is None


def test_very_many_classes_limit_the_rounds():
    train = Examples(*(np.zeros((1, 1), "float32"),) * 2, np.zeros(1))
    setting = setting_of(train, "multiclass")
    assert rounds_that_fit(1000, 99, setting) == 1000
    many = Setting("multiclass", 200, (), setting.statistics)
    with recording() as recorder:
        assert rounds_that_fit(1000, 99, many) == 50
    assert "at most 50 rounds instead of 1000" in recorder.events[0].message


# --- target encoding --------------------------------------------------------------


def test_a_code_becomes_the_smoothed_mean_of_its_rows():
    codes = np.array([[1], [1], [2], [2], [2]], "int32")
    targets = np.array([1.0, 1.0, 0.0, 0.0, 1.0])[:, None]
    weight = np.array([1, 1, 1, 1, 3.0])
    table, _ = fit_target_encoding(codes, targets, weight / 7 * 5, [4])
    counts = weight / weight.mean()
    prior = counts @ targets[:, 0] / counts.sum()
    rows = np.array([0, counts[:2].sum(), counts[2:].sum(), 0])
    sums = np.array([0, counts[:2].sum(), counts[4], 0])
    np.testing.assert_allclose(
        table[:, 0], (sums + 10 * prior) / (rows + 10), rtol=1e-6
    )


def test_no_train_row_sees_its_own_target():
    codes = np.arange(50, dtype="int32")[:, None]  # each row has a code of its own
    targets = np.random.default_rng(0).normal(size=(50, 1)) * 100
    table, encoded = fit_target_encoding(codes, targets, None, [50])
    assert abs(np.corrcoef(table[:, 0], targets[:, 0])[0, 1]) > 0.99
    # Five means of the other rows, which the row's own is not in.
    assert len(np.unique(encoded)) == 5
    assert np.corrcoef(encoded[:, 0], targets[:, 0])[0, 1] < 0


def test_of_many_classes_the_most_frequent_have_a_column():
    targets = np.repeat(np.arange(12), np.arange(12) + 1)
    columns = target_columns(targets, 12)
    assert columns.shape == (78, 10)
    assert columns.sum(axis=0).tolist() == list(range(3, 13))
    assert target_columns(np.array([0, 1]), 2).tolist() == [[0.0], [1.0]]


def test_the_layer_gives_the_table_and_comes_back_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3 + 5, 2)).astype("float32")
    codes = np.stack([rng.integers(0, s, 20) for s in (3, 9, 5)], 1).astype("int32")
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, TargetEncoding.of([0, 2], [3, 5], table)(inputs))
    assert model.output.shape == (None, 4)
    expected = looked_up(table, codes[:, [0, 2]], [3, 5])
    np.testing.assert_array_equal(np.asarray(model(codes)), expected)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(codes)), expected)
    assert not again.trainable_weights
