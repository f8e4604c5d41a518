"""Means over folds: their intervals, and metrics that a fold does not have."""

import pytest

from kerastrain.foldscores import combined


def judged(value, half=0.01, linear=0.7):
    """What a fold gives, with the same number for each metric."""
    names = ("roc_auc", "pr_auc", "log_loss", "accuracy", "f1", "mcc", "brier")
    ends = {"low": None, "high": None}
    if value is not None:
        ends = {"low": value - half, "high": value + half}
    gain = None if value is None else value - linear
    apart = ends if gain is None else {"low": gain - half, "high": gain + half}
    return {
        "test": {name: {"value": value} | ends for name in names},
        "baselines": {"linear": dict.fromkeys(names, linear)},
        "verdict": {"metric": "roc_auc", "baseline": "linear"}
        | {"ours": value, "theirs": linear, "difference": gain}
        | apart,
    }


def scores(*values, has_keys=False, num_once=None, **options):
    folds = [judged(value, **options) for value in values]
    return combined("binary", folds, num_once or len(folds), has_keys=has_keys)


def width(cell):
    return cell["high"] - cell["low"]


def test_the_interval_of_the_mean_is_narrower_than_that_of_a_fold():
    cell = scores(0.80, 0.80, 0.80, 0.80)["test"]["roc_auc"]
    assert cell["value"] == pytest.approx(0.8)
    assert width(cell) == pytest.approx(0.02 / 2)


def test_the_interval_is_as_wide_as_the_folds_differ():
    by_rows = scores(0.6, 0.7, 0.8, half=0.0)
    by_groups = scores(0.6, 0.7, 0.8, half=0.0, has_keys=True)
    assert width(by_rows["test"]["mcc"]) == pytest.approx(2 * 1.96 * 0.1 / 3**0.5)
    assert width(by_groups["test"]["mcc"]) == pytest.approx(2 * 4.30 * 0.1 / 3**0.5)
    assert width(by_groups["verdict"]) == pytest.approx(2 * 4.30 * 0.1 / 3**0.5)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.80, 0.81, 0.82), "Better than the linear baseline: ROC AUC 0.81"),
        ((0.50, 0.51, 0.52), "Worse than the linear baseline: ROC AUC 0.51"),
        ((0.60, 0.72, 0.84), "Not clearly better than the linear baseline"),
    ],
)
def test_the_verdict_goes_by_the_folds_together(values, said):
    verdict = scores(*values)["verdict"]
    assert verdict["sentence"].startswith(said)
    assert verdict["difference"] == pytest.approx(verdict["ours"] - verdict["theirs"])


def test_a_fold_without_a_metric_is_left_out_of_its_mean():
    found = scores(0.8, None, 0.9)
    cell = found["test"]["roc_auc"]
    assert cell["value"] == pytest.approx(0.85)
    assert found["verdict"]["ours"] == pytest.approx(0.85)
    assert cell["low"] < cell["value"] < cell["high"]


def test_a_metric_that_no_fold_has_is_undefined():
    found = scores(None, None)
    assert set(found["test"]["roc_auc"].values()) == {None}
    assert found["verdict"]["sentence"].startswith("No verdict: ROC AUC is not defined")


def test_repeats_count_in_the_mean_and_do_not_narrow_the_interval():
    once = scores(0.8, 0.8)["test"]["roc_auc"]
    twice = scores(0.8, 0.8, 0.8, 0.8, num_once=2)["test"]["roc_auc"]
    assert width(twice) == pytest.approx(width(once))
