"""Comparing two runs: rows, refusals, the sentence; the kept predictions of a run."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

import kerastrain
from kerastrain import assessment, evaluation
from kerastrain.cli import main
from kerastrain.comparing import compare
from kerastrain.errors import DataError, RunError
from kerastrain.events import recording
from kerastrain.schema import Schema, Target
from kerastrain.store import RunFolder, write_json, write_text

BINARY = Target(name="y", task="binary", labels=["no", "yes"])
NUMBER = Target(name="y", task="regression")
ROWS = np.arange(300)


def truth(target):
    random = np.random.default_rng(0)
    if target.labels:
        return random.integers(len(target.labels), size=len(ROWS))
    return random.normal(100, 30, len(ROWS))


def predicted(target, noise, seed=1):
    """The truth with noise: less of it is a better model."""
    random, y = np.random.default_rng(seed), truth(target)
    errors = random.normal(0, noise, len(ROWS))
    if not target.labels:
        return (y + 10 * errors).astype("float32")
    positive = 1 / (1 + np.exp(-(2 * y - 1 + errors)))
    return np.stack([1 - positive, positive], 1).astype("float32")


def outcome(target, prediction, rows=ROWS, weight=None):
    weight = None if weight is None else weight[rows]
    return assessment.Tested(
        truth(target)[rows], prediction[rows], {}, weight, "", rows
    )


def run_of(path, target, test=None, *, sha256="1"):
    """A run folder as far as `compare` looks at it."""
    folder = RunFolder(path)
    path.mkdir()
    write_text(folder.config, "")
    write_text(folder.schema, Schema(columns=[], num_rows=300, target=target).dumps())
    recorded = {"data": {"files": [{"path": str(path), "sha256": sha256}]}}
    write_json(folder.environment, {"data": recorded})
    if test is not None:
        test.save(folder.test_predictions, target)
    return path


@pytest.fixture
def pair(tmp_path):
    """Two runs on the same rows, of which the second is better."""

    def make(target, noise_a=3.0, noise_b=1.0, **given):
        a = outcome(target, predicted(target, noise_a), given.get("rows_a", ROWS))
        b = outcome(target, predicted(target, noise_b, 2), given.get("rows_b", ROWS))
        return run_of(tmp_path / "a", target, a), run_of(tmp_path / "b", target, b)

    return make


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (
            BINARY,
            r"B is better: ROC AUC 0\.\d+ against 0\.\d+, \+0\.\d+ \(95 % interval",
        ),
        (NUMBER, r"B is better: RMSE \d+\.\d against \d+\.\d, \d+\.\d lower \(95 %"),
    ],
)
def test_the_better_run_is_named_whatever_the_direction_of_the_metric(
    pair, target, sentence
):
    a, b = pair(target)
    found, turned = compare(a, b), compare(b, a)
    assert pd.Series(found.sentence).str.match(sentence).all(), found.sentence
    assert found.low > 0
    assert found.probability == 1
    assert turned.sentence == found.sentence.replace("B is", "A is")
    assert turned.difference == -found.difference
    assert (turned.a, turned.b) == (found.b, found.a)


def test_no_difference_beyond_chance_is_said(pair):
    found = compare(*pair(BINARY, 2.0, 2.0))
    assert found.sentence.startswith("No clear difference: ROC AUC 0.")
    assert found.sentence.endswith("which includes 0).")
    assert found.low <= 0 <= found.high


def test_a_run_is_no_better_than_itself(pair):
    a, _ = pair(BINARY)
    found = compare(a, a)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert found.sentence.startswith("No clear difference")


def test_the_numbers_are_those_of_the_paired_bootstrap(pair):
    found = compare(*pair(BINARY))
    y, a, b = truth(BINARY), predicted(BINARY, 3.0), predicted(BINARY, 1.0, 2)
    expected = evaluation.compare("binary", y, b, a)
    assert found.difference == expected["difference"]
    assert (found.low, found.high) == (expected["low"], expected["high"])
    assert {n: s["a"] for n, s in found.scores.items()} == evaluation.score(
        "binary", y, a
    )
    assert json.loads(json.dumps(found.as_dict()))["num_rows"] == 300


def test_only_rows_that_were_test_rows_of_both_are_compared(pair):
    shuffled = np.random.default_rng(5).permutation(ROWS[:200])  # as folds leave them
    found = compare(*pair(BINARY, rows_a=shuffled, rows_b=ROWS[120:]))
    assert (found.num_rows, found.rows) == (80, "test rows of both")
    both = ROWS[120:200]
    alone = evaluation.score("binary", truth(BINARY)[both], predicted(BINARY, 3)[both])
    assert found.a == pytest.approx(alone["roc_auc"])


def test_too_few_common_rows_are_refused(pair):
    a, b = pair(BINARY, rows_a=ROWS[:150], rows_b=ROWS[140:])
    with pytest.raises(DataError, match="10 test rows of both are too few to compare"):
        compare(a, b)


def test_equal_weights_count_and_others_do_not(tmp_path):
    weight, p = np.random.default_rng(3).random(300), predicted(BINARY, 2.0)
    tables = {
        "a": outcome(BINARY, p, weight=weight),
        "b": outcome(BINARY, predicted(BINARY, 1.0), weight=weight),
        "c": outcome(BINARY, predicted(BINARY, 1.0)),
    }
    a, b, c = (run_of(tmp_path / name, BINARY, one) for name, one in tables.items())
    y = truth(BINARY)
    assert compare(a, b).a == evaluation.score("binary", y, p, weight=weight)["roc_auc"]
    with recording() as events:
        assert compare(a, c).a == evaluation.score("binary", y, p)["roc_auc"]
    assert "weigh rows differently" in events.events[0].message


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (NUMBER, "their tasks differ: 'binary' and 'regression'"),
        (BINARY.model_copy(update={"name": "z"}), "their targets differ: 'y' and 'z'"),
        (
            BINARY.model_copy(update={"labels": ["yes", "no"]}),
            "their classes differ: 'no, yes' and 'yes, no'",
        ),
    ],
)
def test_runs_that_predict_other_things_are_refused(tmp_path, other, message):
    a, b = run_of(tmp_path / "a", BINARY), run_of(tmp_path / "b", other)
    with pytest.raises(RunError, match=f"cannot be compared, {message}"):
        compare(a, b)


def test_runs_on_other_data_are_refused(tmp_path):
    test = outcome(BINARY, predicted(BINARY, 1.0))
    a = run_of(tmp_path / "a", BINARY, test)
    b = run_of(tmp_path / "b", BINARY, test, sha256="2")
    with pytest.raises(RunError, match="read different data, so they have no common"):
        compare(a, b)


def test_a_run_without_kept_predictions_is_refused(tmp_path):
    a, b = run_of(tmp_path / "a", BINARY), run_of(tmp_path / "b", BINARY)
    with pytest.raises(RunError, match="a keeps no predictions of test rows"):
        compare(a, b)
    (a / "test_predictions.parquet").write_text("none")
    with pytest.raises(RunError, match="Cannot read .*test_predictions.parquet"):
        compare(a, b)


def test_rows_of_one_number_that_are_not_the_same_are_refused(pair):
    a, b = pair(BINARY)
    table = pq.read_table(b / "test_predictions.parquet").to_pandas()
    table["target"] = table["target"].to_numpy()[::-1]
    table.to_parquet(b / "test_predictions.parquet")
    with pytest.raises(RunError, match="number their rows differently"):
        compare(a, b)


def test_labels_are_those_of_the_rule_of_each_run(tmp_path):
    p = predicted(BINARY, 2.0)
    eager = dataclasses.replace(outcome(BINARY, p), predicted=p[:, 1] >= 0.2)
    a = run_of(tmp_path / "a", BINARY, outcome(BINARY, p))
    b = run_of(tmp_path / "b", BINARY, eager)
    found = compare(a, b).scores
    labels = (p[:, 1] >= 0.2).astype(int)
    assert found["f1"]["b"] == pytest.approx(f1_score(truth(BINARY), labels))
    assert found["f1"]["a"] != found["f1"]["b"]
    assert found["log_loss"]["a"] == found["log_loss"]["b"]


def test_predictions_of_folds_are_kept_with_their_fold(tmp_path):
    p = predicted(BINARY, 1.0)
    folds = [outcome(BINARY, p, ROWS[1::2]), outcome(BINARY, p, ROWS[::2])]
    assessment.Tested.pooled(folds).save(tmp_path / "kept.parquet", BINARY)
    table = pd.read_parquet(tmp_path / "kept.parquet")
    probabilities = ["probability_no", "probability_yes"]
    assert [*table] == ["row", "target", "prediction", *probabilities, "fold"]
    assert table.groupby("fold")["row"].first().to_dict() == {1: 1, 2: 0}
    labels = np.array(BINARY.labels)[truth(BINARY)]
    assert (table.sort_values("row")["target"].to_numpy() == labels).all()


def test_the_command_tells_the_same(pair, capsys):
    folders = [str(path) for path in pair(BINARY)]
    assert main(["compare", *folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"A  {folders[0]}", f"B  {folders[1]}"]
    assert lines[3].split() == ["metric", "A", "B"]
    assert lines[-3] == "300 test rows of both"
    assert lines[-1] == compare(*folders).sentence
    assert main(["compare", *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metric"] == "roc_auc"


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    a, b = run_of(tmp_path / "a", BINARY), run_of(tmp_path / "b", NUMBER)
    assert main(["compare", str(a), str(b)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- runs that were trained -------------------------------------------------------


def frame(num_rows=400, seed=0):
    random = np.random.default_rng(seed)
    x, other = random.normal(size=(2, num_rows))
    y = np.where(x + 0.5 * random.normal(size=num_rows) > 0, "yes", "no")
    return pd.DataFrame({"x": x, "other": other, "y": y})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One that sees the column that matters, and one that does not."""
    folder = tmp_path_factory.mktemp("runs")
    frame().to_csv(folder / "data.csv", index=False)
    frame(100, seed=2).to_csv(folder / "test.csv", index=False)
    settings = {
        "fit": {"epochs": 2}, "model": "linear", "progress": False, "exports": [],
        "split": {"folds": 1}, "test": str(folder / "test.csv"),
    }  # fmt: skip
    return [
        kerastrain.train(
            str(folder / "data.csv"),
            "y",
            out=str(folder / one),
            ignore=[one],
            **settings,
        )
        for one in ("x", "other")
    ]


def test_runs_keep_what_they_predicted_for_their_test_rows(runs):
    found = kerastrain.compare(*runs)
    metrics = [run.metrics for run in runs]
    assert found.num_rows == 100
    assert found.a == pytest.approx(metrics[0]["test"]["roc_auc"]["value"])
    assert found.b == pytest.approx(metrics[1]["test"]["roc_auc"]["value"])


def test_both_predict_data_that_are_given(runs):
    new = frame(200, seed=1)
    new.loc[:4, "y"] = None
    found = kerastrain.compare(*runs, new)
    assert found.sentence.startswith("B is better: ROC AUC")
    assert (found.num_rows, found.rows) == (195, "rows that are given")
    scores = runs[1].evaluate(new)
    assert found.scores["f1"]["b"] == pytest.approx(scores["f1"]["value"])


def test_data_that_were_trained_on_are_warned_of(runs):
    with recording() as events:
        kerastrain.compare(*runs, str(runs[0].folder.path.parent / "data.csv"))
    told = [event for event in events.events if event.code == "rows_trained_on"]
    assert "the run that remembers more of them looks better" in told[0].message
