import math
import time

import numpy as np
import pytest
from sklearn import metrics

from kerastrain.errors import DivergenceError
from kerastrain.evaluation import (
    MAX_DRAWN,
    METRICS,
    NUM_DRAWS,
    compare,
    evaluate,
    primary,
    score,
    verdict,
)

TASKS = list(METRICS)


def rows_of(task, num_rows=400, *, noise=1.0, seed=0, num_classes=4):
    """Truth and a prediction that is better the smaller `noise` is."""
    random = np.random.default_rng(seed)
    if task == "regression":
        y = random.normal(100, 20, num_rows)
        return y, y + random.normal(0, 5 * noise, num_rows)
    num_classes = 2 if task == "binary" else num_classes
    y = random.integers(num_classes, size=num_rows)
    logits = random.normal(0, noise, (num_rows, num_classes))
    logits[np.arange(num_rows), y] += 1
    odds = np.exp(logits)
    return y, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def few_draws(monkeypatch):
    for task in TASKS:
        monkeypatch.setitem(NUM_DRAWS, task, 40)


def test_the_metrics_are_those_of_scikit_learn():
    y, p = rows_of("binary")
    found = score("binary", y, p)
    assert found["roc_auc"] == metrics.roc_auc_score(y, p[:, 1])
    assert found["pr_auc"] == metrics.average_precision_score(y, p[:, 1])
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p))
    assert found["f1"] == metrics.f1_score(y, p.argmax(axis=1))
    assert found["mcc"] == metrics.matthews_corrcoef(y, p.argmax(axis=1))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(y, p[:, 1]))


@pytest.mark.parametrize("weight", [None, np.linspace(0.1, 3, 400)])
def test_one_against_the_rest_is_the_mean_of_scikit_learn(weight):
    y, p = rows_of("multiclass")
    areas = [
        metrics.roc_auc_score(y == k, p[:, k], sample_weight=weight) for k in range(4)
    ]
    found = score("multiclass", y, p, weight=weight)["roc_auc_ovr"]
    assert found == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("task", TASKS)
def test_a_weight_counts_like_repeated_rows(task):
    y, p = rows_of(task)
    times = np.random.default_rng(1).integers(1, 4, size=len(y))
    weighted = score(task, y, p, weight=times)
    repeated = score(task, np.repeat(y, times), np.repeat(p, times, axis=0))
    assert weighted == pytest.approx(repeated, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "y", "p", "undefined"),
    [
        (
            "binary",
            [1, 1],
            [[0.2, 0.8], [0.4, 0.6]],
            {"roc_auc", "pr_auc", "mcc"},
        ),
        ("multiclass", [2, 2], [[0.2, 0.3, 0.5]] * 2, {"roc_auc_ovr"}),
        ("regression", [3.0, 3.0], [2.0, 3.0], {"r2"}),
        ("regression", [3.0], [2.0], {"r2"}),
        ("binary", [], np.zeros((0, 2)), set(METRICS["binary"])),
        ("regression", [], [], set(METRICS["regression"])),
    ],
)
def test_an_undefined_metric_is_none(task, y, p, undefined):
    found = score(task, np.array(y), np.array(p))
    assert {name for name, value in found.items() if value is None} == undefined
    estimates = evaluate(task, np.array(y), np.array(p))
    nothing = {"value": None, "low": None, "high": None}
    assert {name for name in estimates if estimates[name] == nothing} == undefined


def test_a_class_without_test_rows_is_left_out_of_the_means():
    y, p = rows_of("multiclass")
    wider = np.hstack([p, np.zeros((len(y), 1), np.float32)])
    assert score("multiclass", y, wider) == pytest.approx(score("multiclass", y, p))


def test_a_certain_mistake_costs_a_finite_log_loss():
    found = score("binary", np.array([0, 1]), np.array([[0, 1], [0, 1]], np.float32))
    assert found["log_loss"] == pytest.approx(-math.log(np.finfo(np.float32).eps) / 2)


def test_probabilities_in_half_precision_are_taken():
    y, p = rows_of("multiclass")
    found = score("multiclass", y, p.astype(np.float16))
    assert found == pytest.approx(score("multiclass", y, p), abs=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_refused(bad):
    with pytest.raises(DivergenceError, match="1 of 2 predictions are not finite"):
        score("regression", np.array([1.0, 2.0]), np.array([1.0, bad]))


@pytest.mark.parametrize("task", TASKS)
def test_the_interval_holds_the_value_and_is_the_same_for_the_same_seed(
    task, few_draws
):
    y, p = rows_of(task)
    found = evaluate(task, y, p, seed=3)
    for estimate in found.values():
        assert estimate["low"] < estimate["value"] < estimate["high"]
    assert evaluate(task, y, p, seed=3) == found
    assert evaluate(task, y, p, seed=4) != found


def test_the_interval_is_about_as_wide_as_theory_says():
    y = np.random.default_rng(0).integers(2, size=1000)
    p = np.tile([0.0, 1.0], (1000, 1))
    found = evaluate("binary", y, p)["accuracy"]
    share = found["value"]
    half = 1.96 * math.sqrt(share * (1 - share) / 1000)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.25)


def test_drawing_fewer_rows_than_there_are_keeps_the_width(monkeypatch):
    y, p = rows_of("regression", 4000)
    whole = evaluate("regression", y, p)["mae"]
    monkeypatch.setitem(MAX_DRAWN, "regression", 400)
    part = evaluate("regression", y, p)["mae"]
    assert part["value"] == whole["value"]
    width = whole["high"] - whole["low"]
    assert part["high"] - part["low"] == pytest.approx(width, rel=0.25)


def test_no_interval_passes_the_best_value(few_draws):
    y, p = rows_of("binary", 60, noise=0.3)
    found = evaluate("binary", y, p)
    assert found["roc_auc"]["high"] <= 1
    assert found["log_loss"]["low"] >= 0


@pytest.mark.parametrize("task", TASKS)
def test_the_better_model_wins_and_the_sentence_says_so(task, few_draws):
    y, good = rows_of(task, noise=0.5)
    _, poor = rows_of(task, noise=2.0)
    won, lost = compare(task, y, good, poor), compare(task, y, poor, good)
    assert won["low"] > 0
    assert won["probability_better"] == 1
    assert lost["difference"] == pytest.approx(-won["difference"])
    title = METRICS[task][primary(task)].title
    start = f"than the linear baseline: {title} "
    assert verdict(task, won, baseline="linear").startswith(f"Better {start}")
    assert verdict(task, lost, baseline="linear").startswith(f"Worse {start}")


@pytest.mark.parametrize(
    ("task", "values", "sentence"),
    [
        (
            "binary",
            (0.912, 0.887, 0.025, 0.018, 0.033),
            "Better than the linear baseline: ROC AUC 0.912 against 0.887, "
            "+0.025 (95 % interval 0.018 to 0.033).",
        ),
        (
            "regression",
            (48_213.4, 51_002.1, 2788.7, 1800.2, 3700.9),
            "Better than the linear baseline: RMSE 48,213 against 51,002, "
            "2,789 lower (95 % interval 1,800 to 3,701).",
        ),
        (
            "regression",
            (4.2, 3.9, -0.3, -0.41, -0.2),
            "Worse than the linear baseline: RMSE 4.20 against 3.90, "
            "0.30 higher (95 % interval 0.20 to 0.41).",
        ),
        (
            "multiclass",
            (0.51, 0.52, 0.01, -0.005, 0.025),
            "Not clearly better than the linear baseline: Log loss 0.510 against "
            "0.520, 0.010 lower (95 % interval -0.005 to 0.025, which includes 0).",
        ),
        (
            "binary",
            (None, None, None, None, None),
            "No verdict: ROC AUC is not defined on these test rows.",
        ),
        (
            "binary",
            (1.0, 0.5, 0.5, None, None),
            "Too few test rows to compare with the linear baseline: "
            "ROC AUC 1.000 against 0.500.",
        ),
    ],
)
def test_the_verdict_reads(task, values, sentence):
    names = ("ours", "theirs", "difference", "low", "high")
    comparison = {"metric": primary(task)} | dict(zip(names, values, strict=True))
    assert verdict(task, comparison, baseline="linear") == sentence


def test_a_model_is_not_better_than_itself(few_draws):
    y, p = rows_of("binary")
    found = compare("binary", y, p, p)
    assert (found["difference"], found["low"], found["high"]) == (0, 0, 0)
    assert found["probability_better"] == 0
    assert verdict("binary", found, baseline="linear").startswith("Not clearly better")


@pytest.mark.slow
def test_a_big_test_set_is_evaluated_in_seconds():
    y, p = rows_of("multiclass", 75_000, num_classes=23)
    start = time.perf_counter()
    evaluate("multiclass", y, p)
    assert time.perf_counter() - start < 15  # 3 s on an idle 2-core machine


@pytest.mark.filterwarnings("error")
def test_rows_of_weight_0_count_as_no_rows():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    prediction = rng.dirichlet([1, 1, 1], 60)
    weight = np.where(y == 2, 0.0, 2.0)
    given = score("multiclass", y, prediction, weight=weight)
    assert given == score("multiclass", y[:40], prediction[:40], weight=weight[:40])
    assert given["roc_auc_ovr"] is not None
    both = prediction, prediction[::-1]
    pair = compare("multiclass", y, *both, weight=weight)
    assert pair == compare("multiclass", y[:40], *(p[:40] for p in both))


@pytest.mark.parametrize("has_weight", [False, True])
@pytest.mark.parametrize("decimals", [1, 8])
def test_the_area_of_many_classes_is_that_of_scikit_learn(has_weight, decimals):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 7, 200)
    prediction = rng.dirichlet(np.ones(7), 200).round(decimals)
    weight = rng.random(200) if has_weight else None
    expected = np.mean(
        [
            metrics.roc_auc_score(
                y == label, prediction[:, label], sample_weight=weight
            )
            for label in range(7)
        ]
    )
    function = METRICS["multiclass"]["roc_auc_ovr"].function
    assert function(y, prediction, weight) == pytest.approx(expected, rel=1e-12)
