"""The whole flow on a small real table, seen from outside."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import kerastrain
from kerastrain.config import RunConfig
from kerastrain.errors import (
    ConfigError,
    DataError,
    DivergenceError,
    ParityError,
    RunError,
    SchemaError,
    SourceError,
)
from kerastrain.events import read_events
from kerastrain.serving import Run
from kerastrain.split import Parts

PENGUINS = Path(__file__).parent.parent / "examples" / "data" / "penguins.csv"
QUICK = {"fit": {"epochs": 3}, "split": {"folds": 1}, "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "penguins"
    return kerastrain.train(str(PENGUINS), "species", out=str(out), **QUICK)


@pytest.fixture(scope="module")
def frame():
    return pd.read_csv(PENGUINS)


def test_a_run_folder_holds_all_that_it_promises(run):
    names = {path.name for path in run.folder.path.iterdir()}
    assert names >= {
        "config.yaml", "schema.json", "split.parquet", "metrics.json", "history.csv",
        "events.jsonl", "environment.json", "model.keras", "checkpoints", "exports",
        "tensorboard", "report.html",
    }  # fmt: skip
    assert not [name for name in names if ".part" in name]


def test_metrics_stand_beside_the_baselines_with_a_verdict(run):
    metrics = run.metrics
    assert metrics["primary"] == "log_loss"
    assert set(metrics["baselines"]) == {"majority", "linear"}
    assert "linear baseline" in metrics["verdict"]["sentence"]
    low, value, high = (
        metrics["test"]["accuracy"][k] for k in ("low", "value", "high")
    )
    assert 0.5 < low <= value <= high <= 1
    assert sum(metrics["num_rows"].values()) == 344


def test_history_has_a_row_per_epoch(run):
    assert list(run.history["epoch"]) == [1, 2, 3]
    assert {"loss", "val_loss", "val_accuracy", "learning_rate", "epoch_s"} <= set(
        run.history
    )


def test_stages_and_surroundings_are_written_down(run):
    environment = json.loads(run.folder.environment.read_text())
    names = [stage["name"] for stage in environment["stages"]]
    assert names == [
        "profile", "ingest", "split", "encode", "train", "evaluate", "export", "report",
    ]  # fmt: skip
    assert environment["data"]["data"]["files"][0]["sha256"]


def test_predictions_do_not_depend_on_the_form_of_the_data(run, frame):
    from_file = run.predict(str(PENGUINS))
    from_frame = run.predict(frame)
    pd.testing.assert_frame_equal(from_file, from_frame)
    assert list(from_frame) == [
        "prediction",
        "probability_Adelie",
        "probability_Chinstrap",
        "probability_Gentoo",
    ]
    np.testing.assert_allclose(from_frame.iloc[:, 1:].sum(axis=1), 1, rtol=1e-5)


def test_predictions_keep_the_index_of_a_frame(run, frame):
    part = frame.iloc[[7, 3, 200]]
    assert list(run.predict(part).index) == [7, 3, 200]


def test_predictions_do_not_depend_on_the_other_rows(run, frame):
    whole = run.predict(frame).iloc[:, 1:].to_numpy()
    alone = run.predict(frame.iloc[[5]]).iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(alone[0], whole[5], atol=1e-6)


def test_the_keras_model_takes_raw_columns(run, frame):
    import tensorflow as tf

    feed = {
        tensor.name: tf.constant(
            frame[tensor.name].fillna("").to_numpy(object)
            if tensor.dtype == "string"
            else frame[tensor.name].to_numpy("float32")
        )
        for tensor in run.model.inputs
    }
    probabilities = run.model(feed)["probabilities"].numpy()
    expected = run.predict(frame).iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_a_run_comes_back_in_another_process(run, frame, tmp_path, run_python):
    out = tmp_path / "predictions.csv"
    code = (
        "import sys, kerastrain, pandas as pd\n"
        "run = kerastrain.load(sys.argv[1])\n"
        "run.predict(pd.read_csv(sys.argv[2])).to_csv(sys.argv[3], index=False)\n"
        "print(type(run.model).__name__)\n"
    )
    printed = run_python(code, str(run.folder.path), str(PENGUINS), str(out))
    assert printed.splitlines()[-1] == "Functional"
    there, here = pd.read_csv(out), run.predict(frame)
    assert list(there["prediction"]) == list(here["prediction"])
    np.testing.assert_allclose(there.iloc[:, 1:], here.iloc[:, 1:], atol=1e-6)


def test_the_saved_model_stands_without_kerastrain(run):
    """selftest.py makes `import kerastrain` fail before it loads the model."""
    done = subprocess.run(
        [sys.executable, "selftest.py"],
        cwd=run.folder.exports / "saved_model",
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = json.loads(done.stdout)
    assert outcome["passed"] and outcome["rows"] > 250
    assert outcome["max_difference"] <= 1e-5


def test_the_self_test_fails_when_a_number_is_wrong(run, tmp_path):
    import shutil

    copy = tmp_path / "saved_model"
    shutil.copytree(run.folder.exports / "saved_model", copy)
    golden = json.loads((copy / "golden.json").read_text())
    golden["cases"][0]["outputs"]["probabilities"][0][0] += 1e-3
    (copy / "golden.json").write_text(json.dumps(golden))
    done = subprocess.run(
        [sys.executable, "selftest.py"], cwd=copy, capture_output=True, check=False
    )
    assert done.returncode == 1


def test_an_export_that_differs_is_refused(run, monkeypatch):
    from kerastrain import serving

    golden = json.loads(run.folder.golden.read_text())
    golden["cases"][0]["outputs"]["probabilities"][3][1] += 0.01
    monkeypatch.setattr(serving, "read_json", lambda path: golden)
    with pytest.raises(
        ParityError, match="differs from the trained model by up to 0.01"
    ):
        run.export("saved_model")


def test_the_same_seed_gives_the_same_digits(run, tmp_path):
    again = kerastrain.train(
        str(PENGUINS), "species", out=str(tmp_path / "again"), **QUICK
    )
    assert again.metrics == run.metrics
    times = ["epoch_s", "step_ms", "rows_per_s", "input_wait", "memory_mb"]
    pd.testing.assert_frame_equal(
        again.history.drop(columns=times), run.history.drop(columns=times)
    )


def test_the_resolved_configuration_gives_the_same_run(run, tmp_path):
    config = run.config.model_copy(update={"out": str(tmp_path / "repeat")})
    again = kerastrain.train(config, progress=False)
    assert again.metrics == run.metrics
    assert Parts.load(again.folder.split).hash == Parts.load(run.folder.split).hash


def test_arrays_on_disk_give_the_same_digits(run, tmp_path, monkeypatch):
    monkeypatch.setattr("kerastrain.memory._ARRAYS_SHARE", 0)
    small = kerastrain.train(
        str(PENGUINS),
        "species",
        out=str(tmp_path / "small"),
        runtime={"memory": "4GB", "keep_arrays": True},
        **QUICK,
    )
    assert small.metrics["test"] == run.metrics["test"]
    assert [*small.folder.arrays.glob("*.npy")]
    assert not run.folder.arrays.exists()


def test_too_little_memory_is_refused_with_what_is_needed(tmp_path):
    message = (
        r"^--memory 100 MB is too little: this run needs about \S+ [MG]B, of which the "
        r"libraries take \S+ [MG]B. Allow more, or leave --memory out.$"
    )
    with pytest.raises(DataError, match=message):
        kerastrain.train(
            str(PENGUINS),
            "species",
            out=str(tmp_path / "small"),
            runtime={"memory": "100MB"},
            **QUICK,
        )


def test_a_frame_trains_like_its_file(run, frame, tmp_path):
    again = kerastrain.train(frame, "species", out=str(tmp_path / "frame"), **QUICK)
    assert again.metrics["test"]["accuracy"] == run.metrics["test"]["accuracy"]
    with pytest.raises(ConfigError, match="a table in memory is repeated by passing"):
        kerastrain.train(again.config.model_copy(update={"out": None}), progress=False)


def test_test_rows_of_ones_own_are_the_test_rows(frame, tmp_path):
    last = frame.iloc[300:]
    run = kerastrain.train(
        frame.iloc[:300], "species", test=last, out=str(tmp_path / "own"), **QUICK
    )
    parts = Parts.load(run.folder.split)
    assert list(parts.test) == list(range(300, 344))
    assert run.metrics["num_rows"]["test"] == 44
    scores = run.evaluate(last)
    assert scores["accuracy"]["value"] == run.metrics["test"]["accuracy"]["value"]


def test_a_checkpoint_fits_the_model_of_the_run(run, frame):
    before = run.predict(frame)
    model = kerastrain.load(run.folder.path).model
    model.load_weights(run.folder.checkpoints / "best.weights.h5")
    pd.testing.assert_frame_equal(Run(run.folder, model).predict(frame), before)


def test_an_id_column_goes_in_front_also_of_no_rows(run, frame, tmp_path):
    out = tmp_path / "ids.csv"
    for table in (frame[:3], frame[:0]):
        assert run.predict_file(table, out, id_column="island") == len(table)
        written = pd.read_csv(out)
        assert [*written][:2] == ["island", "prediction"]
        assert [*written["island"]] == [*table["island"]]


def test_an_id_column_may_not_be_taken_for_a_prediction(run, frame, tmp_path):
    table = frame.assign(prediction=1)
    with pytest.raises(ConfigError, match="^The id column 'prediction' has the name"):
        run.predict_file(table, tmp_path / "x.csv", id_column="prediction")


def test_test_rows_without_a_known_target_are_refused(frame, tmp_path):
    unknown = frame.iloc[:20].assign(species="Yeti")
    with pytest.raises(DataError, match="^No test row has a known value in 'species'"):
        kerastrain.train(frame, "species", test=unknown, out=str(tmp_path / "x"))


def test_arguments_beside_a_configuration_are_refused():
    config = RunConfig(data="x.csv", target="y")
    message = r"Beside a configuration \(RunConfig\), target, seed would have no effect"
    with pytest.raises(ConfigError, match=message):
        kerastrain.train(config, "z", seed=1)
    with pytest.raises(ConfigError, match=r"\(dict\), test would have no effect"):
        kerastrain.train({"data": "x.csv", "target": "y"}, test="y.csv")


def test_a_regression_gives_numbers_in_the_unit_of_its_target(frame, tmp_path):
    heavy = frame.dropna(subset=["body_mass_g"])
    run = kerastrain.train(
        heavy,
        "body_mass_g",
        out=str(tmp_path / "mass"),
        fit={"epochs": 20},
        progress=False,
    )
    predicted = run.predict(heavy)["prediction"]
    assert run.metrics["task"] == "regression"
    assert predicted.between(2_000, 7_000).mean() > 0.95
    assert np.corrcoef(predicted, heavy["body_mass_g"])[0, 1] > 0.7


def test_row_weights_steer_training_and_scores(frame, tmp_path):
    weighted = frame.assign(w=np.where(frame["species"] == "Gentoo", 0.0, 1.0))
    run = kerastrain.train(
        weighted, "species", weight="w", out=str(tmp_path / "weight"), **QUICK
    )
    predicted = run.predict(weighted)
    assert (predicted["prediction"] != "Gentoo").mean() > 0.9
    assert "w" not in {tensor.name for tensor in run.model.inputs}
    gentoo = frame[frame["species"] == "Gentoo"]  # labelled rows without weights
    assert run.evaluate(gentoo)["accuracy"]["value"] < 0.2


def test_a_column_with_an_odd_name_travels_to_the_signature(frame, tmp_path):
    odd = frame.rename(columns={"bill_length_mm": "Länge/Bill (mm)", "sex": "class"})
    run = kerastrain.train(odd, "species", out=str(tmp_path / "odd"), **QUICK)
    names = {tensor.name for tensor in run.model.inputs}
    assert {"Lange_Bill_mm", "class_"} <= names
    assert run.metrics["parity"]["saved_model"]["max_difference"] <= 1e-5


def test_warnings_of_a_run_are_kept_in_its_folder(frame, tmp_path):
    table = frame.assign(always="same", number=range(len(frame)))
    run = kerastrain.train(table, "species", out=str(tmp_path / "warn"), **QUICK)
    codes = {event.code for event in read_events(run.folder.events)}
    assert len(codes) >= 2
    text = run.folder.events.read_text()
    assert "always" in text and "number" in text


def test_training_that_diverges_says_so_and_leaves_no_model(tmp_path):
    message = r"of epoch 1 was not finite after 3 tries with lower rates\."
    with pytest.raises(DivergenceError, match=message):
        kerastrain.train(
            str(PENGUINS),
            "species",
            out=str(tmp_path / "nan"),
            optimizer={"name": "sgd", "learning_rate": 1e30, "clip_norm": None},
            **QUICK,
        )
    with pytest.raises(RunError, match="has no model"):
        kerastrain.load(tmp_path / "nan")


def test_a_network_is_a_function_too(tmp_path):
    def small(features, *, width: int = 8):
        return keras.layers.Dense(width, activation="relu")(features.flat())

    run = kerastrain.train(
        str(PENGUINS),
        "species",
        model={"name": small, "width": 4},
        out=str(tmp_path / "own"),
        **QUICK,
    )
    assert run.config.model.options == {"width": 4}
    assert run.config.model.name.endswith(":small")


def test_a_network_without_a_name_is_refused(tmp_path):
    message = "The model has to be a function with a name, as one made by def; got"
    with pytest.raises(ConfigError, match=message):
        kerastrain.train(str(PENGUINS), "species", model=lambda features: features)


def test_a_time_limit_ends_in_good_order(tmp_path):
    run = kerastrain.train(
        str(PENGUINS),
        "species",
        out=str(tmp_path / "limited"),
        progress=False,
        split={"folds": 1},
        fit={"epochs": 100_000, "patience": None, "time_limit": "6s"},
    )
    assert 0 < len(run.history) < 100_000
    assert run.metrics["parity"]["saved_model"] and run.folder.report.is_file()
    codes = [event.code for event in read_events(run.folder.events)]
    # Epochs are fitted to the time, so its end comes in the last one or just after it.
    assert codes.count("epochs_chosen") == 1 and codes.count("time_limit") <= 1


def test_a_measured_batch_size_and_rate_are_in_the_run(tmp_path):
    run = kerastrain.train(
        str(PENGUINS),
        "species",
        out=str(tmp_path / "measured"),
        progress=False,
        split={"folds": 1},
        exports=[],
        fit={"epochs": 2, "batch_size": "auto", "find_rate": True},
    )
    assert run.config.fit.batch_size in (32, 64)
    assert not run.config.fit.find_rate
    assert run.metrics["rate_curve"]["points"]


def test_a_network_of_ones_own_goes_the_whole_way(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "import keras\n"
        "def small(features, *, width: int = 8):\n"
        "    return keras.layers.Dense(width, activation='relu')(features.flat())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = {"name": "my_networks:small", "width": 4}
    run = kerastrain.train(
        str(PENGUINS), "species", model=model, out=str(tmp_path / "own"), **QUICK
    )
    assert run.config.model.options == {"width": 4}
    monkeypatch.delitem(sys.modules, "my_networks")
    (tmp_path / "my_networks.py").unlink()
    assert len(kerastrain.load(run.folder).predict(str(PENGUINS))) == 344


def test_a_run_shows_itself_in_a_notebook(run):
    card = run._repr_html_()
    assert "species" in card and "<script" not in card


def test_predictions_match_the_lines_unless_malformed_ones_may_be_left_out(
    run, frame, tmp_path
):
    lines = PENGUINS.read_text().splitlines()
    path, out = tmp_path / "new.csv", tmp_path / "OUT.CSV"
    path.write_text("\n".join([*lines[:5], "1,2", *lines[5:9]]) + "\n")
    with pytest.raises(SourceError, match="new.csv line 6"):
        run.predict_file(str(path), out)
    assert not out.exists()
    assert run.predict_file(str(path), out, max_bad_rows=0.5) == 8
    assert len(pd.read_csv(out)) == 8


def test_all_columns_that_a_file_lacks_are_named(run, frame):
    with pytest.raises(
        SchemaError, match="the frame lacks 2 columns .*'island', 'sex'"
    ):
        run.predict(frame.drop(columns=["island", "sex"]))
