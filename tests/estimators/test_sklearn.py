"""Estimators of scikit-learn other than trees, as themselves and as Keras layers."""

import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.special
from numeric_core import core_of, outputs_of
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier

from kerastrain.errors import ConfigError
from kerastrain.estimator import Examples, Setting
from kerastrain.estimators import ESTIMATORS
from kerastrain.events import recording
from kerastrain.features import NumberStatistics

NAMES = (
    "logistic_regression",
    "ridge",
    "elastic_net",
    "linear_svm",
    "svm",
    "nearest_neighbors",
    "naive_bayes",
    "sklearn_mlp",
)
CLASSES_ONLY = ("logistic_regression", "naive_bayes")
TASKS = ("binary", "multiclass", "regression")
SIZES = (5, 40)
CASES = [
    (name, task)
    for name in NAMES
    for task in TASKS
    if task != "regression" or name not in CLASSES_ONLY
]
every_case = pytest.mark.parametrize(("name", "task"), CASES)
QUICK = {"sklearn_mlp": {"max_rounds": 30, "learning_rate": 0.003}}


def made(name, **options):
    return ESTIMATORS.load(name)(**QUICK.get(name, {}) | options)


def table(num_rows, task, seed=0, num_numbers=3, num_codes=2):
    """Rows with gaps, a huge value, a constant column and rare codes."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(num_rows, 3)).astype("float32")
    codes = np.minimum(rng.geometric(0.3, (num_rows, 2)), np.array(SIZES) - 1)
    signal = 2 * numbers[:, 0] + (codes[:, 0] == 2) - (codes[:, 1] % 3)
    signal = signal + rng.normal(scale=0.3, size=num_rows)
    numbers[:, 2] = 7
    numbers[rng.random(num_rows) < 0.1, 1] = np.nan
    if num_rows > 9:
        numbers[5, 1], codes[3] = 1e30, 0
    y = ((signal - signal.mean()) / signal.std()).astype("float32")
    if task != "regression":
        edges = [0.0] if task == "binary" else [-0.6, 0.5]
        y = np.digitize(y, edges).astype("int32")
    return Examples(
        numbers[:, :num_numbers], codes[:, :num_codes].astype("int32"), y, None
    )


def setting_of(examples, task, **more):
    every = np.arange(len(examples))
    return Setting(
        task=task,
        num_classes={"binary": 2, "multiclass": 3, "regression": 0}[task],
        vocabulary_sizes=SIZES[: examples.codes.shape[1]],
        statistics=NumberStatistics.of(examples.numbers, every),
        **more,
    )


def assert_same(estimator, setting, rows):
    """Equal to 1e-5 of the largest output, and of the right shape."""
    scores = estimator.scores(rows.numbers, rows.codes)
    assert scores.dtype == np.float32
    assert scores.shape == (len(rows), setting.num_outputs)
    got = outputs_of(core_of(estimator), rows)
    tolerance = 1e-5 * max(1.0, np.abs(scores).max())
    np.testing.assert_allclose(got, scores, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def fitted():
    """Each estimator fitted once for each task, by `(name, task)`."""
    found = {}

    def get(name, task):
        if (name, task) not in found:
            rows, judges = table(300, task), table(150, task, seed=1)
            setting = setting_of(rows, task)
            estimator = made(name)
            told = estimator.learn(rows, judges, setting)
            found[name, task] = SimpleNamespace(
                estimator=estimator, told=told, setting=setting, train=rows
            )
        return found[name, task]

    return get


@every_case
def test_the_layers_give_what_the_library_gives(name, task, fitted):
    one = fitted(name, task)
    new = table(200, task, seed=2)
    assert_same(one.estimator, one.setting, new)
    assert not one.told.is_cut_short


@every_case
def test_an_estimator_finds_what_there_is_to_find(name, task, fitted):
    one = fitted(name, task)
    new = table(400, task, seed=3)
    scores = one.estimator.scores(new.numbers, new.codes)
    if task == "regression":
        assert np.mean((scores[:, 0] - new.targets) ** 2) < 0.4
        return
    if task == "binary":
        scores = np.hstack([0 * scores, scores])
    probabilities = scipy.special.softmax(scores.astype("float64"), axis=1)
    error = log_loss(new.targets, probabilities)
    assert error < {"binary": 0.5, "multiclass": 0.8}[task]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_estimator_predicts_the_same(name, fitted, tmp_path):
    one = fitted(name, "multiclass")
    model = core_of(one.estimator)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    expected, got = outputs_of(model, one.train), outputs_of(again, one.train)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert not model.trainable_weights


@pytest.mark.parametrize(
    ("num_numbers", "num_codes", "num_rows"), [(0, 2, 2), (2, 0, 30)]
)
@pytest.mark.parametrize("name", NAMES)
def test_few_rows_and_one_kind_of_columns_are_enough(
    name, num_numbers, num_codes, num_rows
):
    rows = table(num_rows, "binary", 4, num_numbers, num_codes)
    rows.targets[:2] = [0, 1]
    none = Examples(rows.numbers[:0], rows.codes[:0], rows.targets[:0])
    setting = setting_of(rows, "binary")
    estimator = made(name)
    estimator.learn(rows, none, setting)
    assert_same(estimator, setting, rows)


@pytest.mark.parametrize(
    ("name", "found"), [*((name, [0, 2]) for name in NAMES), ("svm", [1])]
)
def test_classes_without_a_train_row_are_next_to_impossible(name, found):
    rows, judges = table(60, "multiclass"), table(30, "multiclass", seed=1)
    rows.targets[:] = np.resize(found, 60)
    setting = setting_of(rows, "multiclass")
    estimator = made(name)
    estimator.learn(rows, judges, setting)
    scores = estimator.scores(judges.numbers, judges.codes)
    absent = sorted({0, 1, 2} - {*found})
    assert (scores[:, absent] <= -30).all()
    assert (scores[:, found].max(axis=1) > -1).all()
    assert_same(estimator, setting, judges)


@pytest.mark.parametrize("found", [0, 1])
def test_one_class_of_two_is_certain(found):
    rows = table(20, "binary")
    rows.targets[:] = found
    setting = setting_of(rows, "binary")
    estimator = made("svm")
    estimator.learn(rows, rows, setting)
    scores = estimator.scores(rows.numbers, rows.codes)
    assert (scores == (30 if found else -30)).all()
    assert_same(estimator, setting, rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_weight_0_is_no_row_and_one_of_weight_20_counts(name):
    task = "binary" if name in CLASSES_ONLY else "regression"
    rows, judges = table(80, task), table(40, task, seed=1)
    setting = setting_of(rows, task)
    weight = np.resize(np.array([0, 1, 1, 1], "float32"), 80)
    weighed = Examples(rows.numbers, rows.codes, rows.targets, weight)
    kept = weight > 0
    fewer = Examples(rows.numbers[kept], rows.codes[kept], rows.targets[kept], None)
    results = []
    for train in (weighed, fewer):
        estimator = made(name)
        estimator.learn(train, judges, setting)
        results.append(estimator.scores(judges.numbers, judges.codes))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-3)
    heavy = weight.copy()
    heavy[:40] *= 20
    estimator = made(name)
    estimator.learn(
        Examples(rows.numbers, rows.codes, rows.targets, heavy), judges, setting
    )
    moved = estimator.scores(judges.numbers, judges.codes) - results[0]
    assert np.abs(moved).max() > 1e-3


@pytest.mark.parametrize("name", CLASSES_ONLY)
def test_what_knows_only_classes_says_so(name):
    rows = table(20, "regression")
    with pytest.raises(ConfigError, match="cannot learn a regression target, only"):
        made(name).learn(rows, rows, setting_of(rows, "regression"))


def test_more_time_than_needed_changes_nothing(fitted):
    for name in ("ridge", "svm"):
        one = fitted(name, "multiclass")
        estimator = made(name)
        setting = setting_of(one.train, "multiclass", seconds=60)
        estimator.learn(one.train, table(150, "multiclass", seed=1), setting)
        rows = one.train
        np.testing.assert_allclose(
            estimator.scores(rows.numbers, rows.codes),
            one.estimator.scores(rows.numbers, rows.codes),
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_time_is_kept(name):
    rows = table(3_000, "multiclass")
    options = {"sklearn_mlp": {"max_rounds": 10_000, "patience": 10_000}}
    estimator = ESTIMATORS.load(name)(**options.get(name, {}))
    start = time.monotonic()
    setting = setting_of(rows, "multiclass", seconds=0.3)
    estimator.learn(rows, table(300, "multiclass", seed=1), setting)
    assert time.monotonic() - start < 3
    assert_same(estimator, setting, table(20, "multiclass", seed=2))


@pytest.mark.parametrize("name", ["svm", "nearest_neighbors", "linear_svm"])
def test_of_many_rows_some_are_drawn_and_it_is_told(name):
    rows = table(200, "multiclass")
    rows.targets[:], rows.targets[17] = np.resize([0, 1], 200), 2
    estimator = made(name, max_rows=50)
    with recording() as recorder:
        estimator.learn(rows, rows, setting_of(rows, "multiclass"))
    (event,) = recorder.events
    assert event.code == "rows_sampled"
    assert "learns from 50 of 200 train rows, drawn at random" in event.message
    assert estimator.found_.tolist() == [0, 1, 2]


def test_neighbours_without_ties_are_those_of_the_library():
    rows = table(200, "multiclass", num_codes=0)
    new = table(50, "multiclass", seed=1, num_codes=0)
    setting = setting_of(rows, "multiclass")
    estimator = made("nearest_neighbors", neighbors=[7], weights="uniform")
    estimator.learn(rows, new, setting)
    x, y = estimator.ready(rows.numbers, rows.codes), rows.targets
    library = KNeighborsClassifier(7).fit(x, y)
    shares = library.predict_proba(estimator.ready(new.numbers, new.codes))
    prior = np.bincount(y) / len(y)
    expected = (7 * shares + prior) / 8
    got = np.exp(estimator.scores(new.numbers, new.codes))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_rows_that_are_equally_near_all_have_a_vote():
    codes = np.repeat(np.array([[1], [2]], "int32"), 10, axis=0)
    y = np.array([0, 1] * 5 + [1] * 10, "int32")
    rows = Examples(np.zeros((20, 0), "float32"), codes, y)
    setting = setting_of(rows, "binary")
    estimator = made("nearest_neighbors", neighbors=[3])
    estimator.learn(rows, rows, setting)
    score = estimator.scores(rows.numbers[:1], codes[:1])
    share = (5 + 0.75) / (10 + 1)  # 15 of 20 are of the second class
    assert score[0, 0] == pytest.approx(np.log(share / (1 - share)), rel=1e-4)
    assert_same(estimator, setting, rows)


def test_the_network_decides_as_its_library_says(fitted):
    one = fitted("sklearn_mlp", "multiclass")
    model, rows = one.estimator.model_, one.train
    x = one.estimator.ready(rows.numbers, rows.codes)
    logits = one.estimator.scores(rows.numbers, rows.codes)
    shares = scipy.special.softmax(logits, axis=1)
    np.testing.assert_allclose(shares, model.predict_proba(x), atol=1e-5)
    assert 1 <= one.told.rounds <= 30


def test_a_machine_of_pairs_adds_the_decisions_of_the_library_up(fitted):
    one = fitted("svm", "multiclass")
    x = one.estimator.ready(one.train.numbers, one.train.codes)
    pairs = one.estimator.model_.decision_function(x)  # 0-1, 0-2, 1-2
    sums = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 2] - pairs[:, 0]], 1) / 2
    np.testing.assert_allclose(one.estimator.decide(x)[:, :2], sums, atol=1e-12)
