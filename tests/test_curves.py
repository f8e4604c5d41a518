import json

import numpy as np
import pytest
from sklearn import metrics

from kerastrain.curves import curves


def binary_rows(num_rows=5000):
    random = np.random.default_rng(0)
    positive = random.random(num_rows)
    y = (random.random(num_rows) < positive).astype(int)
    return y, np.stack([1 - positive, positive], axis=1)


def test_thinned_curves_keep_their_area():
    y, p = binary_rows()
    found = curves("binary", y, p, ["no", "yes"])
    roc, pr = found["roc"], found["pr"]
    assert len(roc["false_positive_rate"]) <= 400
    area = metrics.auc(roc["false_positive_rate"], roc["true_positive_rate"])
    assert area == pytest.approx(metrics.roc_auc_score(y, p[:, 1]), abs=2e-3)
    assert metrics.auc(pr["recall"], pr["precision"]) == pytest.approx(
        metrics.average_precision_score(y, p[:, 1]), abs=5e-3
    )


def test_calibration_bins_hold_all_rows_and_agree_when_calibrated():
    y, p = binary_rows()
    found = curves("binary", y, p, ["no", "yes"])["calibration"]
    assert sum(found["count"]) == len(y)
    assert found["observed"] == pytest.approx(found["predicted"], abs=0.07)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_a_constant_prediction_gives_one_calibration_bin(constant):
    y = np.array([0, 1, 1, 0])
    p = np.tile([1 - constant, constant], (4, 1))
    found = curves("binary", y, p, ["no", "yes"])["calibration"]
    expected = {"predicted": [constant], "observed": [0.5], "count": [4]}
    assert found == expected


def test_one_class_in_the_test_rows_gives_no_roc():
    found = curves("binary", np.ones(5, int), np.full((5, 2), 0.5), ["no", "yes"])
    assert not {"roc", "pr"} & set(found)
    assert found["confusion"]["counts"] == [[0, 0], [5, 0]]


def test_of_many_classes_the_largest_are_shown():
    y = np.repeat(np.arange(40), np.arange(40))
    found = curves("multiclass", y, np.eye(41)[y], [f"c{k}" for k in range(41)])
    assert found["confusion"]["labels"] == [f"c{k}" for k in range(10, 40)]
    assert found["confusion"]["num_hidden"] == 11
    assert np.trace(found["confusion"]["counts"]) == sum(range(10, 40))
    assert set(found["per_class"]["recall"]) == {1.0}


def test_regression_pairs_are_a_sample_and_outer_residuals_are_counted():
    y = np.random.default_rng(0).normal(size=10_000)
    found = curves("regression", y, y + np.r_[[1e6], np.zeros(9_999)], [])
    assert len(found["pairs"]["true"]) == 2_000
    residuals = found["residuals"]
    assert sum(residuals["counts"]) + residuals["num_outside"] == 10_000
    assert abs(residuals["edges"][-1]) < 10


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_rows_give_no_curves_and_rows_give_json(task):
    labels = {"binary": ["a", "b"], "multiclass": ["a", "b", "c"], "regression": []}[
        task
    ]
    p = np.full((6, len(labels)), 1 / len(labels)) if labels else np.arange(6.0)
    y = np.arange(6) % len(labels) if labels else np.arange(6.0)
    assert curves(task, y[:0], p[:0], labels) == {}
    found = curves(task, y, p, labels)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
