"""Rare classes: which rows are trained on, and that probabilities stay honest."""

import re
import sys
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from kerastrain import comparison, resampling
from kerastrain.arrays import ArrayStore
from kerastrain.calibration import Correction
from kerastrain.comparison import judged
from kerastrain.config import parse_config
from kerastrain.errors import ConfigError, DataError, MissingExtra
from kerastrain.events import recording
from kerastrain.features import NumberStatistics
from kerastrain.imbalance import balance_of
from kerastrain.ingest import ingest
from kerastrain.learner import KerasLearner, monitor_of, resolved_fit
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows
from kerastrain.prepare import prepare
from kerastrain.profile import profile
from kerastrain.resampling import counts_of, resampled, synthesised, wanted
from kerastrain.runtime import runtime
from kerastrain.schema import Target
from kerastrain.source import open_source
from kerastrain.split import Parts
from kerastrain.training.fit import TrainingPlan

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

BINARY = Target(name="y", task="binary", labels=["no", "yes"])
THREE = Target(name="y", task="multiclass", labels=["a", "b", "c"])
NUMBER = Target(name="y", task="regression", labels=[])
METHODS = ["class_weights", "focal", "oversample", "undersample", "smote"]


def rows_of(num_negative=200, num_positive=10, *, kinds=("numbers", "codes"), seed=0):
    """Encoded rows with gaps; the last third is not among the rows that are given."""
    rng = np.random.default_rng(seed)
    target = np.repeat([0, 1], [num_negative, num_positive]).astype("int32")
    rng.shuffle(target)
    num_kept, target = len(target), np.concatenate([target, target[::2]])
    numbers = rng.normal(target[:, None], [1, 100], (len(target), 2)).astype("float32")
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    codes = (rng.integers(0, 3, (len(target), 2)) + target[:, None]).astype("int32")
    arrays = {"numbers": numbers, "codes": codes}
    weight = np.ones(len(target), "float32")
    inputs = {name: arrays[name] for name in kinds}
    return Rows(inputs, target, weight, np.arange(num_kept))


def statistics_of(rows):
    none = np.zeros((len(rows.target), 0), "float32")
    return NumberStatistics.of(rows.inputs.get("numbers", none), rows.index)


# --- by position ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["oversample", "undersample"])
@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_resampling_repeats_or_leaves_out_positions_and_copies_nothing(method, ratio):
    rows = rows_of()
    counts = wanted(counts_of(rows, 2), method, ratio)
    got = resampled(rows, counts, 0)
    assert got.inputs is rows.inputs
    assert set(got.index) <= set(rows.index)
    assert np.bincount(got.targets).tolist() == counts.tolist()
    assert counts[1] / counts[0] == pytest.approx(ratio, abs=0.02)
    assert (np.diff(got.index) >= 0).all(), "reads from disk go forward"
    times = np.bincount(got.index, minlength=len(rows))[rows.target[: len(rows)] == 1]
    assert times.max() - times.min() <= 1


def test_the_seed_draws_the_rows():
    rows = rows_of()
    drawn = [resampled(rows, np.array([20, 10]), seed).index for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()


@pytest.mark.parametrize("method", ["oversample", "undersample", "smote"])
def test_rows_of_weight_0_are_no_rows(method):
    rows = rows_of()
    rows.weight[rows.index[::2]] = 0
    counts = counts_of(rows, 2)
    assert counts.sum() == len(rows) // 2
    wished = wanted(counts, method, 1.0)
    if method == "smote":
        got = synthesised(rows, wished, statistics_of(rows), ArrayStore(), 0)
    else:
        got = resampled(rows, wished, 0)
    assert (got.weights > 0).all()
    assert np.bincount(got.targets).tolist() == wished.tolist()


def test_a_class_without_a_train_row_stays_without():
    counts = np.array([100, 0, 10])
    assert wanted(counts, "oversample", 1.0).tolist() == [100, 0, 100]
    assert wanted(counts, "undersample", 1.0).tolist() == [10, 0, 10]
    assert wanted(counts * 0, "undersample", 1.0).tolist() == [0, 0, 0]


# --- new rows ---------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [("numbers",), ("codes",), ("numbers", "codes")])
@pytest.mark.parametrize("num_positive", [2, 10])
def test_smote_adds_rows_between_train_rows_and_keeps_those_there_are(
    kinds, num_positive
):
    rows = rows_of(num_positive=num_positive, kinds=kinds)
    before = {name: array.copy() for name, array in rows.inputs.items()}
    got = synthesised(rows, np.array([200, 100]), statistics_of(rows), ArrayStore(), 0)
    assert np.bincount(got.targets).tolist() == [200, 100]
    old = got.take(np.arange(len(rows)))[0]
    new, classes, weight = got.take(np.arange(len(rows), 300))
    assert (classes == 1).all()
    assert (weight == 1).all()
    positives = rows.index[rows.targets == 1]
    for name in kinds:
        assert np.array_equal(rows.inputs[name], before[name], equal_nan=True)
        assert new[name].dtype == old[name].dtype == before[name].dtype
        mine = before[name][rows.index]
        found = {row.tobytes() for row in old[name]}
        assert found == {row.tobytes() for row in mine}
        source = np.nan_to_num(before[name][positives], nan=np.nan)
        if name == "numbers":
            assert np.isfinite(new[name]).all()
            filled = np.where(np.isnan(source), statistics_of(rows).median, source)
            assert (new[name] >= filled.min(axis=0) - 1e-4).all()
            assert (new[name] <= filled.max(axis=0) + 1e-4).all()
        else:
            for column in range(2):
                assert set(new[name][:, column]) <= set(source[:, column])


def test_smote_needs_two_rows_of_a_class_and_room_for_all(monkeypatch):
    rows, store = rows_of(num_positive=1), ArrayStore()
    counts = np.array([200, 200])
    with pytest.raises(DataError, match="and a class has a single train row. Take ov"):
        synthesised(rows, counts, statistics_of(rows), store, 0)
    monkeypatch.setattr(resampling, "MAX_SYNTHESIS_ROWS", 399)
    message = "imbalance: smote would hold 400 rows in memory, over its limit of 399."
    with pytest.raises(DataError, match=re.escape(message)):
        synthesised(rows_of(), counts, statistics_of(rows), store, 0)


def test_smote_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    message = (
        "The imbalance method 'smote' needs the package 'imbalanced-learn': "
        "pip install 'kerastrain[imbalance]'."
    )
    rows = rows_of()
    with pytest.raises(MissingExtra, match=f"^{re.escape(message)}$"):
        synthesised(rows, np.array([200, 200]), statistics_of(rows), ArrayStore(), 0)


# --- what is settled --------------------------------------------------------------


def settled(target, rows, **settings):
    config = parse_config({"target": "y", **settings})
    return balance_of(config, target, statistics_of(rows), rows, rows)


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        (
            NUMBER,
            {"imbalance": "smote"},
            "imbalance.method: 'smote' is for classes, and 'y' is a regression target.",
        ),
        (
            BINARY,
            {"imbalance": "oversample", "objective": {"class_weights": "balanced"}},
            "imbalance.method 'oversample' and objective.class_weights would both make",
        ),
        (
            BINARY,
            {"imbalance": "focal", "objective": {"loss": "cross_entropy"}},
            "imbalance.method 'focal' and objective.loss 'cross_entropy' are two",
        ),
    ],
)
def test_methods_that_do_not_go_together_are_refused(target, settings, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        settled(target, rows_of(), **settings)


@pytest.mark.parametrize(
    ("target", "num_positive", "settings"),
    [
        (NUMBER, 1, {}),
        (BINARY, 2, {}),  # 100:1
        (BINARY, 1, {"objective": {"class_weights": "balanced"}}),
        (BINARY, 1, {"objective": {"loss": "focal"}}),
        (BINARY, 1, {"imbalance": "none"}),
    ],
)
def test_nothing_is_measured_where_nothing_is_left_open(target, num_positive, settings):
    with recording() as recorder:
        balance = settled(target, rows_of(200, num_positive), **settings)
    assert (balance.config.method, balance.choice) == ("none", {})
    assert not recorder.events


def test_above_100_to_1_auto_is_measured_and_told():
    with recording() as recorder:
        balance = settled(BINARY, rows_of(1_200, 10))
    (event,) = recorder.events
    assert event.code == "imbalance_chosen"
    assert event.message.startswith(
        "The largest class has 120 times the 10 train rows of 'yes'. A small network,"
    )
    assert f"imbalance.method is {balance.config.method}, because" in event.message
    assert event.details == balance.choice
    assert [*balance.choice["scores"]] == [
        "none",
        *sorted(METHODS, key=comparison.METHODS.index),
    ]
    for score in balance.choice["scores"].values():
        assert 0 <= score["average_precision"] <= 1
        assert 0 < score["log_loss"] < 0.2, "probabilities are corrected"


def test_the_same_rows_and_seed_give_the_same_choice():
    scores = [settled(BINARY, rows_of(600, 5)).choice["scores"] for _ in range(2)]
    assert scores[0] == scores[1]


def test_ways_that_would_make_an_epoch_far_longer_are_not_tried():
    target = Target(name="y", task="multiclass", labels=list("abcdef"))
    rows = rows_of(600, 5)
    rows.target[rows.index[np.flatnonzero(rows.targets == 0)[:8]]] = [
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
    ]
    tried = settled(target, rows).choice["scores"]
    assert [*tried] == ["none", "class_weights", "undersample", "focal"]


def test_many_classes_are_measured_too_without_smote_for_a_single_row():
    rows = rows_of(600, 8)
    rows.target[rows.index[np.flatnonzero(rows.targets == 0)[0]]] = 2
    choice = settled(THREE, rows).choice
    assert "smote" not in choice["scores"]
    assert choice["scores"]["none"]["average_precision"] > 0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"none": (0.3, 1, None), "focal": (0.5, 1, -0.01)}, "none"),
        ({"none": (0.3, 1, None), "focal": (0.5, 1, 0.01)}, "focal"),
        ({"none": (0.3, 1, None), "focal": (None, 1, None)}, "none"),
        ({"none": (0.3, 1, None), "focal": (0.5, 1.2, 0.01)}, "none"),
        (
            {
                "none": (0.3, 1, None),
                "focal": (0.5001, 0.9, 0.01),
                "smote": (0.5, 0.8, 0.02),
            },
            "smote",
        ),
    ],
)
def test_doing_nothing_is_kept_unless_another_is_clearly_better(scores, expected):
    names = ("average_precision", "log_loss", "gain_low")
    table = {k: dict(zip(names, v, strict=True)) for k, v in scores.items()}
    assert comparison._best(table) == expected


def test_rare_rows_are_all_kept_when_rows_are_left_out():
    rows, share = comparison._thinned(rows_of(2_000, 30), 2, 500, 0)
    assert np.bincount(rows.targets).tolist() == [470, 30]
    np.testing.assert_allclose(share, [470 / 2_000, 1])


@pytest.mark.parametrize("digits", [9, 1])  # with ties
def test_average_precision_is_that_of_scikit_learn_in_every_draw(digits):
    rng = np.random.default_rng(0)
    classes = (rng.random(300) < 0.1).astype("int32")
    scores = np.round(rng.random(300) + 0.3 * classes, digits)
    weight = rng.uniform(0.5, 2, 300)
    draws = comparison._draws(weight, 0)[:5]
    got = comparison._of_class(classes == 1, scores, draws)
    expected = [
        sklearn.metrics.average_precision_score(classes, scores, sample_weight=w)
        for w in draws
    ]
    np.testing.assert_allclose(got, expected)


# --- the epoch --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "counts", "expected"),
    [
        (BINARY, (1_010, 10), True),
        (BINARY, (1_000, 10), False),
        (BINARY, (10, 1_010), False),  # the common class is the positive one
        (THREE, (1_010, 10), False),
    ],
)
def test_a_rare_positive_class_is_watched_by_average_precision(
    target, counts, expected
):
    balance = settled(target, rows_of(*counts), imbalance="none")
    assert balance.watches_precision is expected


def test_average_precision_is_the_default_monitor_of_a_rare_class_alone():
    config = parse_config({"target": "y"}).fit
    goal = Objective("binary", ("no", "yes"), "cross_entropy", None)
    with recording() as recorder:
        assert monitor_of(config, goal, is_rare=True) == ("val_pr_auc", "max")
        assert recorder.events[0].code == "monitor_chosen"
        asked = config.model_copy(update={"monitor": "loss"})
        assert monitor_of(asked, goal, is_rare=True) == ("val_loss", "min")
        assert monitor_of(config, goal) == ("val_loss", "min")
    assert len(recorder.events) == 1


# --- the whole way ----------------------------------------------------------------


def truth(num_rows, seed=0, rate=0.05):
    """A table, and the probability of each row."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 2))
    kind = rng.integers(0, 3, num_rows)
    logits = 1.2 * x[:, 0] - 0.8 * x[:, 1] + 0.7 * (kind == 1)
    low, high = -20.0, 5.0
    for _ in range(50):
        middle = (low + high) / 2
        p = 1 / (1 + np.exp(-logits - middle))
        low, high = (middle, high) if p.mean() < rate else (low, middle)
    y = np.where(rng.random(num_rows) < p, "yes", "no")
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "kind": kind.astype(str), "y": y})
    return frame, p


def learner_of(frame, parts, **settings):
    settings = {"fit": {"epochs": 12, "batch_size": 128}} | settings
    config = parse_config({"target": "y", "positive_label": "yes", **settings})
    source, store = open_source(frame, config.source), ArrayStore()
    schema = profile(source, target="y", positive_label="yes")
    table = ingest([source], schema, store)
    with runtime(config.runtime, seed=0) as devices:
        config = config.model_copy(update={"fit": resolved_fit(config.fit, 1, 1)})
        data = prepare(table, schema, parts, store, config)
        plan = TrainingPlan(config, devices, store)
        learner = KerasLearner(data, config.model, plan)
        learner.fit(data.train, data.validation)
    return learner, data, table.raw(schema, parts.test)


@pytest.fixture(scope="module")
def world():
    frame, p = truth(12_000)
    cuts = np.split(np.arange(len(frame)), [4_000, 7_000])
    return frame, p, Parts(*cuts)


@pytest.mark.parametrize(
    "settings",
    [
        *(
            pytest.param(
                {"imbalance": method},
                marks=[] if method in ("class_weights", "focal") else pytest.mark.slow,
            )
            for method in METHODS
        ),
        pytest.param(
            {"imbalance": {"method": "oversample", "ratio": 0.3}},
            marks=pytest.mark.slow,
        ),
        {"objective": {"class_weights": {"yes": 30}}},
    ],
    ids=str,
)
def test_probabilities_stay_honest_in_the_model_too(world, settings, tmp_path):
    frame, p, parts = world
    learner, data, raw = learner_of(frame, parts, **settings)
    got = learner.predict(data.test)
    assert got[:, 1].mean() == pytest.approx(p[parts.test].mean(), rel=0.2)
    # 0.01 with all rows; 0.028 with the 400 that undersampling leaves
    assert abs(got[:, 1] - p[parts.test]).mean() < 0.035
    biased = replace(learner.objective, correction=None)
    learner.objective, honest = biased, learner.objective
    assert learner.predict(data.test)[:, 1].mean() > 3 * p[parts.test].mean()
    learner.objective = honest

    inputs = {name: keras.ops.convert_to_tensor(values) for name, values in raw.items()}
    learner.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for model in (learner.model, again):
        decided = model(inputs)["probabilities"]
        np.testing.assert_allclose(decided, got, rtol=1e-4, atol=1e-6)


def test_a_model_trained_on_all_rows_is_corrected_like_those_of_the_folds(world):
    frame, _, parts = world
    few = Parts(parts.train[:400], parts.validation[:200], parts.test)
    settings = {"imbalance": "oversample", "fit": {"epochs": 1, "batch_size": 64}}
    learner, data, raw = learner_of(frame, few, **settings)
    other, _, _ = learner_of(frame, few, **settings)
    fitted = Correction((-1.0,), 0.5), Correction((-2.0,), 0.7)
    for one, correction in zip((learner, other), fitted, strict=True):
        one.objective = replace(one.objective, correction=correction)
    learner.correct_like([learner, other])
    assert learner.objective.correction == Correction((-1.5,), 0.6)
    inputs = {name: keras.ops.convert_to_tensor(values) for name, values in raw.items()}
    decided = learner.model(inputs)["probabilities"]
    np.testing.assert_allclose(decided, learner.predict(data.test), rtol=1e-4)


def test_without_imbalance_the_model_has_no_further_layer(world):
    frame, _, parts = world
    few = Parts(parts.train[:500], parts.validation[:200], parts.test)
    learner, _, _ = learner_of(frame, few, fit={"epochs": 1, "batch_size": 64})
    assert learner.objective.correction is None
    assert "calibrate" not in [layer.name for layer in learner.model.layers]


def test_validation_and_test_rows_are_never_resampled(world):
    frame, _, parts = world
    settings = {"imbalance": "smote", "fit": {"epochs": 1, "batch_size": 256}}
    _, data, _ = learner_of(frame, parts, **settings)
    for name in ("train", "validation", "test"):
        assert (getattr(data, name).index == getattr(parts, name)).all()


def test_judged_sees_validation_rows_only_to_judge():
    rows = rows_of(600, 5)
    config = parse_config({"target": "y"})
    nobody = replace(rows, index=rows.index[rows.targets == 0])
    result = judged(
        config, BINARY, statistics_of(rows), rows, nobody, counts=counts_of(rows, 2)
    )
    assert result.chosen == "none"
    assert str(result).startswith("No validation row is of a class to judge by")
