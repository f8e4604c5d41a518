"""Cross-validation in a run: scores, the model that is kept, what is written down."""

import weakref

import numpy as np
import pandas as pd
import pytest

import kerastrain
from kerastrain.errors import ConfigError
from kerastrain.fitting import Job
from kerastrain.parts import load_parts

QUICK = {"fit": {"epochs": 2}, "model": "linear", "progress": False}


def table(num_rows, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=num_rows)
    frame = pd.DataFrame(
        {
            "x": x,
            "c": random.choice(["a", "b", "c"], num_rows),
            "who": random.integers(0, 40, num_rows).astype(str) + "p",
            "day": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(np.arange(num_rows), "D"),
        }
    )
    frame["y"] = np.where(x + random.normal(size=num_rows) > 0, "yes", "no")
    frame["z"] = 3 * x + random.normal(size=num_rows)
    return frame


FRAME = table(240)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "run"
    data = FRAME.drop(columns=["z", "who", "day"])
    return kerastrain.train(data, "y", out=str(out), **QUICK)


def events_of(run):
    text = run.folder.events.read_text()
    return {line.split('"')[3] for line in text.splitlines()}


def test_a_small_table_is_cross_validated_and_told_why(run):
    assert run.config.split.folds == 5
    assert "240 rows with a target are few" in run.folder.events.read_text()
    metrics = run.metrics
    assert (metrics["num_folds"], metrics["repeats"], metrics["refit"]) == (5, 1, None)
    assert metrics["num_rows"]["test"] == 240
    tested = [fold["num_rows"]["test"] for fold in metrics["folds"]]
    assert (sum(tested), max(tested) - min(tested)) == (240, 2)


def test_scores_are_means_over_the_folds_with_their_spread(run):
    metrics = run.metrics
    for name, cell in metrics["test"].items():
        values = [fold["test"][name] for fold in metrics["folds"]]
        assert cell["value"] == pytest.approx(np.mean(values))
        assert cell["spread"] == pytest.approx(np.std(values, ddof=1))
        assert cell["low"] <= cell["value"] <= cell["high"]
    assert metrics["verdict"]["baseline"] == "linear"


def test_all_fits_use_the_recorded_split(run):
    fits = load_parts(run.folder.split)
    assert sorted(row for parts in fits for row in parts.test) == [*range(240)]
    for parts, fold in zip(fits, run.metrics["folds"], strict=True):
        assert len(parts.train) == fold["num_rows"]["train"]


def test_the_model_is_the_average_of_the_folds(run):
    again = kerastrain.load(run.folder.path)
    members = [layer for layer in again.model.layers if layer.name.startswith("fold_")]
    assert len(members) == 5
    feed = {"x": np.array([0.5, np.nan], "float32"), "c": np.array(["a", "new"], "O")}
    feed = {name: tf_constant(values) for name, values in feed.items()}
    each = [member(feed)["probabilities"].numpy() for member in members]
    whole = again.model(feed)["probabilities"].numpy()
    np.testing.assert_allclose(whole, np.mean(each, axis=0), rtol=1e-5)
    assert np.ptp([one[0, 0] for one in each]) > 0
    predicted = again.predict(FRAME)
    np.testing.assert_allclose(
        predicted.filter(like="probability_").sum(axis=1), 1, rtol=1e-5
    )


def tf_constant(values):
    import tensorflow as tf

    return tf.constant(values)


def test_the_export_of_the_average_passed_the_gate(run):
    assert run.metrics["parity"]["saved_model"]
    assert (run.folder.exports / "saved_model").is_dir()


def test_history_and_checkpoints_are_kept_for_each_fold(run):
    history = run.history
    assert history.groupby("fold")["epoch"].max().to_dict() == dict.fromkeys(
        range(1, 6), 2
    )
    folders = sorted(path.name for path in run.folder.checkpoints.iterdir())
    assert folders == [f"fold_{i}" for i in range(1, 6)]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_digits(run, tmp_path):
    data = FRAME.drop(columns=["z", "who", "day"])
    again = kerastrain.train(data, "y", out=str(tmp_path / "again"), **QUICK)
    assert again.metrics["test"] == run.metrics["test"]
    assert again.metrics["folds"] == run.metrics["folds"]


def test_a_time_split_trains_one_model_again_on_all_rows(tmp_path):
    data = FRAME.drop(columns=["y", "who"])
    run = kerastrain.train(
        data,
        "z",
        out=str(tmp_path / "time"),
        split={"time": "day", "folds": 3, "gap": "2d"},
        **QUICK,
    )
    metrics = run.metrics
    assert metrics["refit"]["epochs"] == metrics["best_epoch"]
    assert metrics["split"] == metrics["split"] | {"kind": "time", "column": "day"}
    assert "refit_chosen" in events_of(run)
    assert run.model.name == "kerastrain"
    assert set(run.history["fold"]) == {0, 1, 2, 3}
    for parts in load_parts(run.folder.split):
        assert parts.train.max() + 2 <= parts.validation.min()
        assert parts.validation.max() + 2 <= parts.test.min()


def test_groups_stand_on_one_side_in_every_fold_and_are_no_feature(tmp_path):
    data = FRAME.drop(columns=["z", "day"])
    run = kerastrain.train(
        data,
        "y",
        out=str(tmp_path / "group"),
        split={"group": "who", "folds": 3},
        **QUICK,
    )
    assert "who" not in [tensor.name for tensor in run.model.inputs]
    who = FRAME["who"].to_numpy()
    for parts in load_parts(run.folder.split):
        assert not {*who[parts.test]} & {*who[parts.train]}
        assert not {*who[parts.validation]} & {*who[parts.train]}


@pytest.mark.slow
def test_with_test_rows_of_ones_own_the_average_is_tested_on_them(tmp_path):
    data = FRAME.drop(columns=["z", "who", "day"])
    run = kerastrain.train(
        data.iloc[:200],
        "y",
        test=data.iloc[200:],
        out=str(tmp_path / "own"),
        split={"folds": 3},
        **QUICK,
    )
    metrics = run.metrics
    assert metrics["num_rows"]["test"] == 40
    assert "spread" in metrics["cross_validation"]["accuracy"]
    scored = run.evaluate(data.iloc[200:])
    for name in ("accuracy", "log_loss"):
        assert metrics["test"][name]["value"] == pytest.approx(
            scored[name]["value"], rel=1e-4
        )


def test_validation_rows_of_ones_own_choose_the_epoch(tmp_path):
    data = FRAME.drop(columns=["z", "who", "day"])
    run = kerastrain.train(
        data.iloc[:180],
        "y",
        validation=data.iloc[180:],
        out=str(tmp_path / "own"),
        **QUICK,
    )
    [parts] = load_parts(run.folder.split)
    assert parts.validation.tolist() == [*range(180, 240)]
    assert run.metrics["num_rows"]["test"] == 27
    with pytest.raises(ConfigError, match="^split.folds: each fold draws validation"):
        kerastrain.train(
            data.iloc[:180],
            "y",
            validation=data.iloc[180:],
            split={"folds": 3},
            out=str(tmp_path / "both"),
            **QUICK,
        )


def test_few_groups_make_fewer_folds_and_a_metric_may_lack_in_one(tmp_path):
    data = FRAME.drop(columns=["z", "day", "who"]).iloc[:90]
    data["who"] = [f"p{i % 3}" for i in range(90)]
    data["y"] = ["yes" if i % 3 == 0 and i % 2 else "no" for i in range(90)]
    run = kerastrain.train(
        data,
        "y",
        out=str(tmp_path / "few"),
        split={"group": "who"},
        exports=[],
        **QUICK,
    )
    assert run.config.split.folds == 3
    assert run.metrics["num_folds"] == 3
    assert {"folds_chosen", "folds_undefined"} <= events_of(run)
    assert run.metrics["test"]["accuracy"]["value"] is not None


def test_encoded_rows_of_a_fold_are_let_go_before_the_next(tmp_path, monkeypatch):
    seen, num_alive = [], []
    prepare = Job.prepare

    def watched(job, parts):
        num_alive.append(sum(one() is not None for one in seen))
        data = prepare(job, parts)
        seen.append(weakref.ref(data))
        return data

    monkeypatch.setattr(Job, "prepare", watched)
    data = FRAME[["x", "y"]].iloc[:60]
    split = {"folds": 2, "refit": True}
    kerastrain.train(
        data, "y", out=str(tmp_path / "r"), split=split, exports=[], **QUICK
    )
    assert num_alive == [0, 0, 0]
