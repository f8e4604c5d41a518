"""`--model auto`: a portfolio and its ensemble as one Keras model."""

import csv
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import kerastrain
from kerastrain.config import RunConfig
from kerastrain.ensembles.ensemble import EnsembleLearner
from kerastrain.ensembles.portfolio import auto, deals_folds
from kerastrain.events import read_events
from kerastrain.pipeline import Rows

MEMBERS = ["naive_bayes", "hist_gradient_boosting", "tests.broken:Broken"]


def table(num_rows=400, *, task="binary"):
    random = np.random.default_rng(0)
    x, noise = random.normal(size=(2, num_rows))
    city = random.choice(["Bern", "Rome", "Oslo"], num_rows)
    value = x + (city == "Rome") + 0.3 * noise
    y = value if task == "regression" else np.where(value > 0.5, "yes", "no")
    return pd.DataFrame({"x": x, "city": city, "y": y})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return kerastrain.train(
        table(),
        target="y",
        out=str(tmp_path_factory.mktemp("auto") / "run"),
        model={"name": "auto", "members": MEMBERS, "folds": 2},
        split={"folds": 1},
        explain=2,
        progress=False,
    )


def test_the_ensemble_is_a_weighted_mean_of_members(run):
    board = run.metrics["leaderboard"]
    rows = {row["model"]: row for row in board["entries"]}
    assert board["metric"] == "roc_auc"
    assert rows.keys() == {*MEMBERS, "ensemble"}
    weights = [rows[name]["weight"] for name in MEMBERS[:2]]
    assert sum(weights) == pytest.approx(1)
    best = max(rows[name]["validation"] for name in MEMBERS[:2])
    assert rows["ensemble"]["validation"] >= best - 1e-9
    assert rows["hist_gradient_boosting"]["folds"] == 2
    assert all(rows[name]["test"] > 0.8 for name in (*MEMBERS[:2], "ensemble"))
    told = run.metrics["test"]["roc_auc"]["value"]
    assert rows["ensemble"]["test"] == pytest.approx(told)


def test_what_was_foreseen_is_used_once_and_for_the_same_rows_alone():
    asked = []

    class Guess:
        name = "guess"

        def predict(self, rows):
            asked.append(len(rows))
            return np.full(len(rows), 2.0)

    learner = object.__new__(EnsembleLearner)
    learner.tried, learner.members = [Guess()], [(Guess(), 1.0)]
    learner._foreseen = None
    inputs, index = {"x": np.zeros((9, 1))}, np.arange(5)
    rows = Rows(inputs, np.zeros(9), np.ones(9), index)
    assert learner.foresee(rows)["ensemble"].tolist() == [2.0] * 5
    learner.undecided(replace(rows, index=index.copy()))
    assert asked == [5]
    learner.undecided(rows)
    assert asked == [5, 5]
    learner.foresee(rows)
    assert len(learner.undecided(replace(rows, index=index[:3]))) == 3
    assert asked == [5, 5, 5, 3]


def test_a_member_that_fails_is_shown_with_its_reason(run):
    entries = run.metrics["leaderboard"]["entries"]
    failed = next(row for row in entries if row["model"] == "tests.broken:Broken")
    assert failed["status"].startswith("failed: ")
    assert failed["weight"] is None
    codes = [event.code for event in read_events(run.folder.events)]
    assert "member_failed" in codes


def test_the_leaderboard_is_a_file_with_the_best_first(run):
    with run.folder.leaderboard.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["validation"]) for row in rows if row["validation"]]
    assert scores == sorted(scores, reverse=True)
    assert rows[-1]["status"].startswith("failed")


def test_the_saved_model_gives_the_numbers_of_the_run(run):
    frame = table().drop(columns="y").head(20)
    ours = run.predict(frame)
    loaded = kerastrain.load(run.folder.path).predict(frame)
    pd.testing.assert_frame_equal(ours, loaded)
    assert run.metrics["parity"]["saved_model"]["max_difference"] < 1e-5


def test_the_ensemble_is_explained(run):
    page = run.folder.report.read_text("utf-8")
    assert "What it goes by" in page
    assert kerastrain.load(run.folder.path).explain(table().head(2)).shape[0] == 2


def test_validation_scores_are_of_rows_that_a_member_did_not_see(run):
    board = run.metrics["leaderboard"]["entries"]
    ensemble = next(row for row in board if row["model"] == "ensemble")
    assert run.metrics["validation"]["roc_auc"] == ensemble["validation"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": ["nonesuch"]}, "nonesuch"),
        ({"folds": 0}, "expected 1 to 50, got 0"),
        ({"max_size": "big"}, "expected a size such as 500MB"),
        ({"quality": "superb"}, "superb"),
    ],
)
def test_wrong_options_are_refused_before_data_are_read(options, message, tmp_path):
    with pytest.raises(kerastrain.ConfigError, match=message):
        kerastrain.train(
            table(60),
            target="y",
            model={"name": "auto", **options},
            out=str(tmp_path / "run"),
            progress=False,
        )


@pytest.mark.parametrize(
    ("size", "expected"), [("20", 20), ("20.5", 20.5), ("20MB", 20), (None, None)]
)
def test_a_size_without_a_unit_is_megabytes(size, expected):
    assert auto(max_size=size).max_size == expected


@pytest.mark.parametrize(
    ("settings", "own", "expected"),
    [
        ({}, (), True),
        ({"model": "linear"}, (), False),
        ({"split": {"group": "g"}}, (), False),
        ({"split": {"time": "t"}}, (), False),
        ({}, ("validation",), False),
        ({"model": {"name": "auto", "quality": "fast"}}, (), False),
    ],
)
def test_rows_of_a_group_or_a_time_are_not_dealt(settings, own, expected):
    config = RunConfig(**{"data": "a.csv", "target": "y", "model": "auto"} | settings)
    assert deals_folds(config, frozenset(own)) is expected


def test_models_are_tried_that_suit_the_task_and_the_rows():
    few = [one.label for one in auto().suited("binary", 1_000)]
    many = [one.label for one in auto().suited("regression", 20_000)]
    assert {"logistic_regression", "lightgbm"} < set(few)
    assert not {"ridge", "lightgbm_large"} & set(few)
    assert {"ridge", "lightgbm_large"} < set(many)
    asked = auto(members=["ridge", "lightgbm_large"])
    assert len(asked.suited("binary", 10)) == 2  # who names them gets them


def test_a_portfolio_of_which_nothing_can_be_fitted_is_an_error(tmp_path):
    with pytest.raises(kerastrain.DataError, match="tests.broken:Broken: failed"):
        kerastrain.train(
            table(100),
            target="y",
            model={"name": "auto", "members": MEMBERS[2:]},
            split={"folds": 1},
            out=str(tmp_path / "run"),
            progress=False,
        )


@pytest.mark.parametrize("members", [["naive_bayes", "mlp"], ["mlp"]])
def test_a_network_with_few_epochs_is_left_out_unless_it_is_all(
    tmp_path, monkeypatch, members
):
    training = "kerastrain.training"
    monkeypatch.setattr(f"{training}.fit.is_surely_within", lambda *_: False)
    # 150 rows of train and validation at 5 a second, in a third of 160 s: 1 epoch.
    monkeypatch.setattr(f"{training}.pace.rows_per_second", lambda *_: 5.0)
    run = kerastrain.train(
        table(200),
        target="y",
        out=str(tmp_path / "run"),
        model={"name": "auto", "members": members, "folds": 1},
        split={"folds": 1},
        fit={"time_limit": "200s"},
        explain=0,
        exports=[],
        progress=False,
    )
    entries = run.metrics["leaderboard"]["entries"]
    status = {entry["model"]: entry["status"] for entry in entries}["mlp"]
    if members == ["mlp"]:
        assert status == "fitted"
    else:
        assert status.startswith("skipped: the time is enough for 1 of ")


def test_boosted_folds_are_one_forest_of_which_the_limit_is_told(tmp_path):
    run = kerastrain.train(
        table(300),
        target="y",
        out=str(tmp_path / "run"),
        model={
            "name": "auto",
            "members": ["gradient_boosting"],
            "folds": 2,
            "max_size": "100MB",
        },
        split={"folds": 1},
        explain=0,
        exports=[],
        progress=False,
    )
    cores = [one.name for one in run.model.layers if "numeric_core" in one.name]
    assert len(cores) == 1
    told = [e for e in read_events(run.folder.events) if e.code == "limit_met"]
    kept = run.metrics["leaderboard"]["entries"][0]
    assert told[0].details["total"] == pytest.approx(kept["size_mb"])


@pytest.mark.slow
def test_folds_of_a_regression_end_in_one_model(tmp_path):
    run = kerastrain.train(
        table(task="regression"),
        target="y",
        model={"name": "auto", "members": ["ridge", "extra_trees"], "folds": 2},
        split={"folds": 2},
        out=str(tmp_path / "run"),
        progress=False,
    )
    assert run.metrics["test"]["r2"]["value"] > 0.7
    assert len(run.predict(table().head(3))) == 3


def test_it_is_the_default(run_python):
    code = "from kerastrain import RunConfig as R; c = R(target='y')"
    found = run_python(f"{code}; print(c.model.name, c.explain)")
    assert found.strip() == "auto 20.0"
