"""Weights of the members of an ensemble."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerastrain.ensembles.blending import dropped_until, pruned, select
from kerastrain.ensembles.blendloss import Loss
from kerastrain.evaluation import METRICS, score
from kerastrain.events import recording

RANDOM = np.random.default_rng(0)
NUM_ROWS = 600
Y = {
    "binary": RANDOM.integers(0, 2, NUM_ROWS),
    "multiclass": RANDOM.integers(0, 4, NUM_ROWS),
    "regression": RANDOM.normal(size=NUM_ROWS),
}
WEIGHT = RANDOM.uniform(0.5, 2, NUM_ROWS)
CASES = [(task, name) for task, table in METRICS.items() for name in table]


def guesses(task, noise, seed=0):
    """Predictions that know the truth beside noise of their own."""
    random = np.random.default_rng(seed)
    if task == "regression":
        return Y[task] + noise * random.normal(size=NUM_ROWS)
    num_classes = 2 if task == "binary" else 4
    logits = noise * random.normal(size=(NUM_ROWS, num_classes))
    logits[np.arange(NUM_ROWS), Y[task]] += 1
    shares = np.exp(logits)
    return (shares / shares.sum(axis=1, keepdims=True)).astype("float32")


def members(task, *noises):
    return {f"m{i}": guesses(task, noise, i) for i, noise in enumerate(noises)}


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_quick_losses_order_predictions_like_the_metrics(task, name):
    metric, sign = (
        METRICS[task][name],
        -1 if METRICS[task][name].greater_is_better else 1,
    )
    loss = Loss.of(Y[task], metric, {"binary": 2, "multiclass": 4}.get(task, 0), WEIGHT)
    tried = list(members(task, 0.6, 1, 1.5, 2, 2.5).values())
    quick = [loss(loss.part(one)) for one in tried]
    exact = [sign * score(task, Y[task], one, weight=WEIGHT)[name] for one in tried]
    assert np.argsort(quick).tolist() == np.argsort(exact).tolist()
    if name not in ("rmse", "r2"):  # which go by the mean of the squares
        assert quick == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_mean_is_at_least_as_good_as_the_best_member(task, name):
    tried, metric = members(task, 1, 1.1, 1.2, 3), METRICS[task][name]
    weights = select(tried, Y[task], metric, weight=WEIGHT)
    assert sum(weights.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in weights.values())
    mean = sum(weight * tried[one] for one, weight in weights.items())
    values = [
        score(task, Y[task], one, weight=WEIGHT)[name]
        for one in (mean, *tried.values())
    ]
    sign = 1 if metric.greater_is_better else -1
    assert sign * values[0] >= max(sign * value for value in values[1:]) - 1e-6


@settings(max_examples=25, deadline=None)
@given(
    noises=st.lists(st.floats(0.1, 5), min_size=1, max_size=6),
    bags=st.sampled_from([1, 3]),
)
def test_weights_sum_to_one_and_keep_the_order_of_the_members(noises, bags):
    tried = members("regression", *noises)
    weights = select(tried, Y["regression"], METRICS["regression"]["rmse"], bags=bags)
    assert sum(weights.values()) == pytest.approx(1)
    assert list(weights) == [name for name in tried if name in weights]


def test_bags_of_poor_members_give_way():
    metric, y = METRICS["regression"]["mae"], Y["regression"]
    tried = {"good": y + 0.01, "poor": y + 5.0, "poorer": y + 6.0}
    weights = select(tried, y, metric, bags=20)
    assert weights == {"good": 1.0}


def test_of_equal_members_the_first_is_taken_alone():
    one = guesses("binary", 1)
    tried = {"fast": one, "slow": one.copy()}
    assert select(tried, Y["binary"], METRICS["binary"]["roc_auc"]) == {"fast": 1.0}


def test_rows_without_weight_do_not_count():
    good, bad = guesses("regression", 0.1), guesses("regression", 0.1, 1)
    weight = np.ones(NUM_ROWS)
    weight[:300], bad[300:] = 0, bad[300:] + 9
    tried = {"bad": bad, "good": good}
    metric = METRICS["regression"]["mae"]
    assert select(tried, Y["regression"], metric, weight=weight) == {"good": 1.0}


def test_a_sample_of_many_rows_stands_for_all_of_them():
    random = np.random.default_rng(0)
    y = (random.random(200_000) < 0.01).astype(int)
    positive = np.clip(random.normal(0.3 + 0.3 * y, 0.15), 0, 1)
    p = np.stack([1 - positive, positive], axis=1)
    for name in ("pr_auc", "f1", "mcc"):
        loss = Loss.of(y, METRICS["binary"][name], 2, None)
        assert len(loss.rows) < 15_000
        assert -loss(loss.part(p)) == pytest.approx(
            score("binary", y, p)[name], abs=0.02
        )


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({}, "^an ensemble needs one member at least.$"),
        ({"a": np.array([1.0, np.nan])}, "^predictions of a are NaN in some rows.$"),
    ],
)
def test_what_cannot_be_weighed_is_refused(predictions, message):
    with pytest.raises(ValueError, match=message):
        select(predictions, np.zeros(2), METRICS["regression"]["mae"])


@pytest.mark.parametrize(
    ("task", "name"), [("regression", "mae"), ("binary", "log_loss")]
)
def test_a_dear_member_that_hardly_helps_is_pruned(task, name):
    tried, metric, y = members(task, 0.8, 1, 1, 3), METRICS[task][name], Y[task]
    whole = select(tried, y, metric)
    dear = dict(zip(tried, (1, 1, 90, 100), strict=True))
    kept = pruned(tried, y, metric, costs=dear, share=0.0)
    assert set(kept) <= set(whole)
    few = pruned(tried, y, metric, costs=dear, share=0.9)
    assert "m2" not in few and "m3" not in few and len(whole) > len(few)
    assert sum(few.values()) == pytest.approx(1)

    def loss(weights):
        mean = sum(weight * tried[name] for name, weight in weights.items())
        sign = -1 if metric.greater_is_better else 1
        return sign * metric.function(y, mean, None)

    alone = min(loss({name: 1.0}) for name in tried)
    for share in (0.0, 0.05, 0.3):
        kept = pruned(tried, y, metric, costs=dear, share=share)
        gained, most = alone - loss(kept), alone - loss(whole)
        assert gained >= (1 - share) * most - 1e-6


def dropped(costs, limit):
    tried = members("regression", 0.8, 1, 1, 1.2)
    names = dict(zip(tried, costs, strict=True))
    metric, y = METRICS["regression"]["rmse"], Y["regression"]
    with recording() as recorder:
        weights = dropped_until(tried, y, metric, costs=names, limit=limit)
    return weights, recorder.events[-1]


@pytest.mark.parametrize(
    ("costs", "limit", "kept"),
    [
        ((1, 1, 1, 1), 4, {"m0", "m1", "m2", "m3"}),
        ((1, 1, 1, 90), 4, {"m0", "m1", "m2"}),
        ((90, 1, 1, 1), 4, {"m1", "m2", "m3"}),
        ((9, 9, 9, 2), 5, {"m3"}),
    ],
)
def test_members_are_dropped_until_the_limit_holds(costs, limit, kept):
    weights, event = dropped(costs, limit)
    assert set(weights) == kept
    assert sum(weights.values()) == pytest.approx(1)
    assert event.code == "limit_met"
    assert event.details["total"] <= limit


def test_where_no_member_is_within_the_limit_the_cheapest_is_left_with_a_warning():
    weights, event = dropped((9, 8, 7, 6), 5)
    assert weights == {"m3": 1.0}
    assert (event.code, event.severity) == ("limit_not_met", "warning")
    assert event.message == (
        "No member is within the limit, and the smallest is kept: m3, which together "
        "come to 6 (limit 5)."
    )
