"""The decision: labels by threshold or costs, the same in NumPy and as layers."""

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

import kerastrain
from kerastrain import evaluation, parity
from kerastrain.config import DecisionConfig, parse_config
from kerastrain.decision import Decision, Rule, check, rule_of
from kerastrain.errors import ConfigError
from kerastrain.evaluation import evaluate, score
from kerastrain.events import recording
from kerastrain.layers import DecideLabel
from kerastrain.schema import Column, ColumnStats, Schema, Target
from kerastrain.thresholds import best_threshold

BINARY = ("no", "yés")
THREE = ("1", "b", "")
COSTS = {"b": {"1": 20, "": 3}, "": {"b": 2}}


def rows(num_rows, num_classes, seed=0):
    """Honest probabilities, rather rare for the last class, and true classes."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(num_rows, num_classes)) * 1.5
    logits[:, -1] -= 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = (random.random((num_rows, 1)) > p.cumsum(axis=1)).sum(axis=1)
    return p.astype("float32"), classes.clip(max=num_classes - 1)


def fit(labels, num_rows=2_000, task=None, **settings):
    config = DecisionConfig.model_validate(settings)
    task = task or ("binary" if len(labels) == 2 else "multiclass")
    return Decision.fit(task, labels, *rows(num_rows, len(labels)), config=config)


# --- thresholds -------------------------------------------------------------------

SCORES = {
    "f1": metrics.f1_score,
    "mcc": metrics.matthews_corrcoef,
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
}


@pytest.mark.parametrize("name", SCORES)
def test_the_threshold_is_about_the_best_and_its_value_is_that_of_scikit_learn(name):
    p, y = rows(3_000, 2)
    found = best_threshold(p[:, 1], y == 1, metric=name)
    value = SCORES[name](y, p[:, 1] >= found.threshold)
    assert found.value == pytest.approx(value)
    assert found.plain == pytest.approx(SCORES[name](y, p[:, 1] >= 0.5))
    tried = [SCORES[name](y, p[:, 1] >= one) for one in np.linspace(0.01, 0.99, 99)]
    assert found.value >= max(tried) - 0.01


@pytest.mark.parametrize("name", ["f1", "mcc", "accuracy", "balanced_accuracy"])
@pytest.mark.parametrize("seed", range(3))
def test_a_weight_of_two_counts_as_two_rows(name, seed):
    random = np.random.default_rng(seed)
    p = random.random(30).astype("float32")
    y, weight = random.random(30) < p, random.integers(1, 4, 30)
    found = best_threshold(p, y, weight, metric=name)
    named = p >= found.threshold
    assert found.value == pytest.approx(SCORES[name](y, named, sample_weight=weight))


def test_a_limit_of_recall_or_precision_holds():
    p, y = rows(3_000, 2)
    for name, ours, limited in [
        ("precision_at_recall", metrics.precision_score, metrics.recall_score),
        ("recall_at_precision", metrics.recall_score, metrics.precision_score),
    ]:
        found = best_threshold(p[:, 1], y == 1, metric=name, at=0.6)
        named = p[:, 1] >= found.threshold
        assert limited(y, named) >= 0.6
        assert found.value == pytest.approx(ours(y, named))


def test_of_equally_good_thresholds_it_is_the_nearest_to_a_half():
    p, y = np.array([0.1, 0.2, 0.9]), np.array([False, False, True])
    found = best_threshold(p, y, metric="precision_at_recall", at=1.0)
    assert (found.threshold, found.value) == (pytest.approx(0.55), 1.0)


def test_where_nothing_is_defined_a_half_is_kept_with_a_warning():
    p, y = np.array([0.1, 0.2]), np.array([False, False])
    with recording() as recorder:
        found = best_threshold(p, y, metric="balanced_accuracy")
    assert found.threshold == 0.5
    assert recorder.events[0].code == "threshold_kept"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30), st.integers(0, 99))
def test_the_value_is_that_of_the_threshold_for_any_probabilities(positive, seed):
    p = np.array(positive, "float32")
    y = np.random.default_rng(seed).random(len(p)) < 0.5
    found = best_threshold(p, y, metric="accuracy")
    named = p >= np.float32(found.threshold)
    assert found.value == pytest.approx((named == y).mean())


# --- rules ------------------------------------------------------------------------

RULES = {
    "argmax": Rule(THREE),
    "threshold": Rule(BINARY, threshold=0.3),
    "costs": Rule(THREE, costs=((0, 1, 1), (20, 0, 3), (1, 2, 0))),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_and_layer_give_the_same_labels_after_a_keras_file(name, tmp_path):
    rule = RULES[name]
    p, _ = rows(500, len(rule.labels))
    tensor = keras.Input((len(rule.labels),))
    model = keras.Model(tensor, rule.layer()(tensor))
    assert (model.output.shape, model.output.dtype) == ((None,), "string")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = [rule.labels[k] for k in rule.classes(p)]
    for one in (model, again):
        assert [text.decode() for text in one(p).numpy()] == expected
        assert rule_of(one) == rule


@pytest.mark.parametrize("name", RULES)
def test_within_its_margin_a_label_stays(name):
    rule, random = RULES[name], np.random.default_rng(1)
    p, _ = rows(500, len(rule.labels))
    moved = p + random.choice([-1, 1], p.shape) * rule.margins(p)[:, None] * 0.99
    sure = rule.margins(p) > 1e-5
    assert sure.mean() > 0.95
    assert (rule.classes(moved) == rule.classes(p))[sure].all()


def test_a_threshold_is_reached_by_the_probability_itself():
    threshold = float(np.float32(0.3))
    p = np.array([[0.7, threshold], [0.7, np.nextafter(np.float32(0.3), 0)]], "float32")
    rule = Rule(BINARY, threshold=threshold)
    assert rule.classes(p).tolist() == [1, 0]
    assert rule.layer()(p).numpy().tolist() == ["yés".encode(), b"no"]


def test_costs_give_the_label_of_the_least_expected_cost():
    decision = fit(THREE, costs=COSTS)
    assert decision.rule.costs == ((0, 1, 1), (20, 0, 3), (1, 2, 0))
    p, y = rows(5_000, 3, seed=1)
    told = decision.measured(p, y)["costs"]
    named = decision.classes(p)
    expected = np.mean(
        [decision.rule.costs[a][b] for a, b in zip(y, named, strict=True)]
    )
    assert told["mean"] == pytest.approx(expected)
    assert told["mean"] < 0.9 * told["mean_of_most_probable"]


# --- the whole decision -----------------------------------------------------------


def test_by_default_honest_probabilities_and_labels_stay_as_they_are():
    decision = fit(BINARY)
    p, y = rows(100, 2)
    assert decision.calibration.method == "none"
    assert decision.classes(decision.probabilities(p)).tolist() == p.argmax(1).tolist()
    assert type(decision.rule.layer()) is DecideLabel
    assert decision.described()["decision"] == {"rule": "argmax"}
    assert decision.measured(p, y) == {}


def test_scores_of_labels_are_those_of_the_decision(monkeypatch):
    monkeypatch.setitem(evaluation.NUM_DRAWS, "binary", 30)
    decision = fit(BINARY, metric="f1")
    p, y = rows(2_000, 2, seed=1)
    predicted = decision.classes(p)
    scores = score("binary", y, p, predicted=predicted)
    assert scores["f1"] == pytest.approx(metrics.f1_score(y, predicted))
    assert scores["mcc"] == pytest.approx(metrics.matthews_corrcoef(y, predicted))
    plain = score("binary", y, p)
    assert scores["f1"] > plain["f1"]
    assert scores["roc_auc"] == plain["roc_auc"]
    weight = np.repeat([1.0, 0.0], 1_000)
    half = score("binary", y[:1_000], p[:1_000], predicted=predicted[:1_000])
    assert score("binary", y, p, weight=weight, predicted=predicted) == pytest.approx(
        half
    )
    cell = evaluate("binary", y, p, predicted=predicted)["f1"]
    assert cell["low"] < cell["value"] == scores["f1"] < cell["high"]


def test_how_a_threshold_was_found_is_told():
    with recording() as recorder:
        told = fit(BINARY, metric="f1").described()["decision"]
    assert (told["rule"], told["metric"]) == ("threshold", "f1")
    assert told["value"] > told["value_at_half"]
    assert recorder.events[-1].message == (
        f"'yés' is predicted from a probability of {told['threshold']:.3f} on, which "
        f"is best for f1 on rows not trained on: {told['value']:.3f}, against "
        f"{told['value_at_half']:.3f} from 0.5 on."
    )


def model_of(labels):
    """A stand-in for a trained model: a raw column to probabilities or a value."""
    a = keras.Input((), name="a")
    tame = keras.ops.tanh(keras.ops.where(keras.ops.isfinite(a), a, 0.0))
    if not labels:
        return keras.Model({"a": a}, {"prediction": 5 * tame})
    logits = keras.layers.Concatenate()([tame[:, None] * k for k in range(len(labels))])
    p = keras.ops.softmax(logits)
    prediction = DecideLabel(labels)(p)
    return keras.Model({"a": a}, {"prediction": prediction, "probabilities": p})


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (BINARY, {"metric": "f1", "calibrate": "isotonic"}),
        (BINARY, {"threshold": 0.6, "calibrate": "temperature"}),
        (THREE, {"costs": COSTS, "calibrate": "isotonic"}),
        (THREE, {"calibrate": "none"}),
        ((), {"coverage": 0.8}),
        ((), {"coverage": None}),
    ],
    ids=str,
)
def test_a_model_decides_as_its_decision_says(labels, settings, tmp_path):
    plain = model_of(labels)
    a = np.linspace(-3, 3, 1_000, dtype="float32")
    name = "probabilities" if labels else "prediction"
    ours = plain({"a": a})[name].numpy()
    random = np.random.default_rng(0)
    if not labels:
        y = ours + random.normal(size=1_000)
    else:
        y = (random.random((1_000, 1)) > ours.cumsum(axis=1)).sum(axis=1) % len(labels)
    task = {0: "regression", 2: "binary", 3: "multiclass"}[len(labels)]
    config = DecisionConfig.model_validate(settings)
    decision = Decision.fit(task, labels, ours, y, config=config)
    decision.behind(plain).save(tmp_path / "model.keras")
    outputs = keras.saving.load_model(tmp_path / "model.keras")({"a": a})
    found = decision.probabilities(ours)
    if labels:
        np.testing.assert_allclose(outputs["probabilities"], found, atol=2e-6)
        texts = np.array([text.decode() for text in outputs["prediction"].numpy()])
        sure = decision.rule.margins(found) > 1e-5
        expected = np.array(labels)[decision.classes(found)]
        assert texts[sure].tolist() == expected[sure].tolist()
    elif settings["coverage"]:
        assert list(outputs) == ["prediction", "lower", "upper"]
        np.testing.assert_allclose(outputs["lower"], decision.intervals(ours)[0])
        measured = decision.measured(ours, y)["intervals"]
        assert measured["measured"] == pytest.approx(0.8, abs=0.02)
    else:
        assert list(outputs) == ["prediction"]


def test_golden_rows_near_the_threshold_may_get_either_label():
    stats = ColumnStats(storage="float", num_rows=9)
    column = Column(name="a", input="a", type="numeric", role="feature", stats=stats)
    target = Target(name="y", task="binary", labels=list(BINARY))
    schema = Schema(columns=[column], num_rows=9, target=target)
    plain = model_of(BINARY)
    a = np.array([-1, 0, 1], "float32")
    threshold = float(plain({"a": a})["probabilities"][2, 1])
    rule = Rule(BINARY, threshold=threshold)
    model = Decision(BINARY, rule=rule).behind(plain)
    golden = parity.golden_cases(model, schema, {"a": a})
    assert golden["cases"][0]["is_sure"][:3] == [True, True, False]
    assert parity.golden_cases(plain, schema, {"a": a})["cases"][0]["is_sure"][:3] == [
        True, False, True,
    ]  # fmt: skip


# --- what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "labels", "wanted", "message"),
    [
        ("multiclass", THREE, {"metric": "f1"},
         "^decision.metric: it is not for multiclass targets. Use decision.costs.$"),
        ("regression", (), {"threshold": 0.2},
         "^decision.threshold: it is not for regression targets.$"),
        ("regression", (), {"costs": {}},
         "^decision.costs: it is not for regression targets.$"),
        ("binary", BINARY, {"costs": {"no": {"yes": 1}}},
         "^Unknown label in decision.costs 'yes'. Did you mean 'yés'"),
    ],
)  # fmt: skip
def test_a_decision_that_does_not_fit_the_target_is_refused(
    task, labels, wanted, message
):
    with pytest.raises(ConfigError, match=message):
        check(task, labels, DecisionConfig.model_validate(wanted))


def test_two_ways_to_decide_are_refused():
    message = "metric and threshold cannot be combined: name one"
    with pytest.raises(ConfigError, match=message):
        parse_config({"target": "y", "decision": {"metric": "f1", "threshold": 0.2}})


def test_costs_survive_a_configuration_file():
    wanted = {"costs": {"1": {"Yes": 2}, "Yes": {"1": 3}}}
    config = parse_config({"target": "y", "decision": wanted})
    assert parse_config(yaml.safe_load(config.dumps())) == config


# --- a whole run ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_run_with_a_decision_predicts_scores_and_exports(task, tmp_path):
    random = np.random.default_rng(0)
    a = random.normal(size=600)
    y = a + random.normal(size=600)
    frame = pd.DataFrame(
        {"a": a, "y": y if task == "regression" else np.array(["n", "y"])[(y > 1) * 1]}
    )
    run = kerastrain.train(
        frame,
        "y",
        model="linear",
        out=str(tmp_path),
        progress=False,
        fit={"epochs": 2},
        split={"folds": 1},
        decision={"coverage": None},
    )
    classes = np.array(
        [run.target.labels.index(label) for label in frame["y"]]
        if run.target.labels
        else y
    )
    first = run.predict(frame)
    values = first["prediction"] if task == "regression" else first.iloc[:, 1:]
    wanted = {"coverage": 0.8} if task == "regression" else {"metric": "f1"}
    config = DecisionConfig.model_validate(wanted)
    decision = Decision.fit(
        task, run.target.labels, values.to_numpy(), classes, config=config
    )
    model = decision.behind(run.model)
    golden = parity.golden_cases(model, run.schema, {"a": a[:64].astype("float32")})
    _, outcome = parity.export_verified("saved_model", model, tmp_path / "out", golden)
    assert outcome["wrong_labels"] == 0

    model.save(run.folder.model)
    again = kerastrain.load(tmp_path)
    second = again.predict(frame)
    if task == "regression":
        assert list(second) == ["prediction", "lower", "upper"]
        inside = (second["lower"] <= y) & (y <= second["upper"])
        assert inside.mean() == pytest.approx(0.8, abs=0.02)
        assert list(again.predict(frame[:0])) == list(second)
    else:
        named = decision.classes(decision.probabilities(values.to_numpy()))
        assert ((second["prediction"] == "y") == named).mean() > 0.99
        assert (named != values.to_numpy().argmax(axis=1)).any()
        scores = metrics.f1_score(classes, second["prediction"] == "y")
        assert again.evaluate(frame)["f1"]["value"] == pytest.approx(scores)
