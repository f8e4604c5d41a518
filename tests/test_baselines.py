import numpy as np
import pytest

from kerastrain import baselines
from kerastrain.baselines import EncodedTable, fit_baselines
from kerastrain.evaluation import score

NUM_ROWS = 600
ROWS = {
    "train_rows": np.arange(400),
    "validation_rows": np.arange(400, 500),
    "test_rows": np.arange(500, NUM_ROWS),
}


def table_of(task):
    """Two numbers, one with gaps and one infinity, and two categories that matter."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(NUM_ROWS, 2)).astype(np.float32)
    codes = random.integers(0, 5, size=(NUM_ROWS, 2)).astype(np.int32)
    signal = numbers[:, 0] + np.array([-2, -1, 0, 1, 2])[codes[:, 0]]
    numbers[::7, 1] = np.nan
    numbers[3, 1] = np.inf
    if task == "regression":
        return EncodedTable(numbers, codes, (100 + 10 * signal).astype(np.float32))
    edges = [0] if task == "binary" else [-1, 1]
    return EncodedTable(numbers, codes, np.digitize(signal, edges))


@pytest.mark.parametrize(
    ("task", "simple", "num_classes", "metric"),
    [
        ("binary", "majority", 2, "accuracy"),
        ("multiclass", "majority", 3, "accuracy"),
        ("regression", "mean", 0, "r2"),
    ],
)
def test_the_linear_model_learns_what_is_linear(task, simple, num_classes, metric):
    table = table_of(task)
    found = fit_baselines(task, table, num_classes=num_classes, **ROWS)
    assert list(found.predictions) == [simple, "linear"]
    y = table.y[ROWS["test_rows"]]
    scores = {n: score(task, y, p)[metric] for n, p in found.predictions.items()}
    assert scores["linear"] > 0.85
    assert scores["linear"] > scores[simple] + 0.2
    assert found.description.endswith(" on 400 train rows.")


def test_the_simple_baseline_gives_the_shares_of_the_train_rows():
    table = table_of("binary")
    found = fit_baselines("binary", table, num_classes=2, **ROWS)
    share = (table.y[:400] == 1).mean()
    assert found.predictions["majority"] == pytest.approx(
        np.tile([1 - share, share], (100, 1))
    )


def test_a_class_that_has_no_train_row_gets_a_column_of_zeros():
    table = table_of("multiclass")
    found = fit_baselines("multiclass", table, num_classes=5, **ROWS)
    for prediction in found.predictions.values():
        assert prediction.shape == (100, 5)
        assert prediction[:, 3:].max() == 0
        assert score("multiclass", table.y[500:], prediction)["log_loss"] is not None


def test_many_rows_are_sampled_and_the_description_says_so(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ROWS", 150)
    found = fit_baselines("regression", table_of("regression"), **ROWS)
    assert found.num_fitted_rows == 150
    assert found.description.endswith("on 150 train rows, drawn at random from 400.")


def test_a_fit_that_ran_out_of_steps_says_so_and_does_not_warn(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_STEPS", 1)
    found = fit_baselines("binary", table_of("binary"), num_classes=2, **ROWS)
    assert ", stopped after 1 steps, on 400 train rows." in found.description


@pytest.mark.parametrize("which", ["numbers", "codes", "both"])
def test_a_table_may_lack_numbers_or_categories(which):
    table = table_of("regression")
    numbers, codes = table.numbers, table.codes
    numbers = numbers[:, :0] if which in ("numbers", "both") else numbers
    codes = codes[:, :0] if which in ("codes", "both") else codes
    found = fit_baselines("regression", EncodedTable(numbers, codes, table.y), **ROWS)
    assert found.predictions["linear"].shape == (100,)
    assert ("No linear model" in found.description) == (which == "both")


@pytest.mark.parametrize("part", ["validation_rows", "test_rows"])
@pytest.mark.parametrize(("task", "num_classes"), [("binary", 2), ("regression", 0)])
def test_a_split_may_lack_validation_or_test_rows(part, task, num_classes):
    rows = ROWS | {part: np.arange(0)}
    found = fit_baselines(task, table_of(task), num_classes=num_classes, **rows)
    for prediction in found.predictions.values():
        assert len(prediction) == len(rows["test_rows"])


def test_row_weights_move_the_baselines():
    table = table_of("regression")
    heavy = np.where(table.y > 100, 9.0, 1.0)
    weighted = EncodedTable(table.numbers, table.codes, table.y, heavy)
    light = fit_baselines("regression", table, **ROWS).predictions["mean"][0]
    assert (
        fit_baselines("regression", weighted, **ROWS).predictions["mean"][0] > light + 3
    )


def test_a_column_that_is_missing_in_every_train_row_is_survived():
    table = table_of("regression")
    table.numbers[:400, 1] = np.nan
    found = fit_baselines("regression", table, **ROWS)
    assert np.isfinite(found.predictions["linear"]).all()
