"""A class of the user's with fit and predict, through a whole run."""

import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import kerastrain
from kerastrain.cli import main
from kerastrain.errors import ConfigError, MissingExtra, RunError
from kerastrain.events import read_events

PENGUINS = Path(__file__).parent.parent / "examples" / "data" / "penguins.csv"
MODULE = "own_estimators_of_test"
TYPE = f"{MODULE}.Mine"
CODE = """
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import BayesianRidge

class Mine(LinearDiscriminantAnalysis):
    '''A default of it is not one that YAML has.'''

    def __init__(self, solver="lsqr", shrinkage=0.1, kind=np.float64):
        super().__init__(solver=solver, shrinkage=shrinkage)
        self.kind = kind

class Ridge(BayesianRidge):
    pass

class NoPredict:
    def fit(self, x, y):
        pass

class Needy:
    def __init__(self, size):
        self.size = size

    def fit(self, x, y):
        raise RuntimeError("no luck today")

    def predict(self, x):
        pass
"""
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the user's module, which can be imported."""
    folder = tmp_path_factory.mktemp("home")
    (folder / f"{MODULE}.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop(MODULE, None)


@pytest.fixture(scope="module")
def run(home):
    """With a decision of many parts: a correction, a calibration and costs."""
    mine = __import__(MODULE).Mine
    return kerastrain.train(
        str(PENGUINS),
        "species",
        model={"name": mine, "shrinkage": 0.3},
        objective={"class_weights": "balanced"},
        decision={"costs": {"Adelie": {"Gentoo": 5.0}}},
        out=str(home / "run"),
        **QUIET,
    )


@pytest.fixture
def not_imported():
    """As in a process that has not seen the user's module."""
    loaded = sys.modules.pop(MODULE)
    yield
    sys.modules[MODULE] = loaded


def test_it_is_evaluated_and_reported_and_says_once_that_it_cannot_leave(run):
    assert run.metrics["test"]["accuracy"]["value"] > 0.9
    assert run.config.model.options == {"shrinkage": 0.3}
    assert run.config.exports == []
    assert run.config.split.folds == 1  # few rows; others have folds
    told = [e for e in read_events(run.folder.events) if e.code == "not_exportable"]
    assert [event.severity for event in told] == ["warning"]
    message = "Mine is no Keras model, so the run has no model.keras and cannot be"
    assert told[0].message.startswith(message)
    assert message in run.folder.report.read_text()


def test_its_folder_holds_the_parts_and_no_pickle(run):
    names = {p.name for p in run.folder.model_parts.iterdir()}
    assert names == {"front.keras", "estimator.skops", "decision.keras"}
    assert not run.folder.model.exists()
    assert not run.folder.exports.exists()


def test_another_process_predicts_the_same_once_it_trusts_the_type(
    run, home, run_python
):
    run.predict(str(PENGUINS)).to_parquet(home / "here.parquet")
    code = f"""
import sys
sys.path.insert(0, {str(home)!r})
import pandas as pd
import kerastrain
from kerastrain.cli import main
data, folder = {str(PENGUINS)!r}, {str(run.folder.path)!r}
own = kerastrain.load(folder, trusted=[{TYPE!r}])
pd.testing.assert_frame_equal(
    own.predict(data), pd.read_parquet({str(home / "here.parquet")!r})
)
print(own.evaluate(data)["accuracy"]["value"] > 0.9)
print(main(["predict", folder, data, "-o", {str(home / "out.csv")!r}, "--trust",
            {TYPE!r}]))
"""
    first, *_, last = run_python(code).split("\n")[:-1]
    assert (first, last) == ("True", "0")
    written = pd.read_csv(home / "out.csv")
    np.testing.assert_array_equal(
        written["prediction"], run.predict(str(PENGUINS))["prediction"]
    )


def test_a_type_that_is_not_trusted_is_not_imported(run, not_imported):
    message = rf"holds types that are not trusted: {TYPE}\. If you know .* --trust TYPE"
    loaded = kerastrain.load(run.folder)
    assert loaded.metrics["task"] == "multiclass"  # no model is needed for that
    with pytest.raises(RunError, match=message):
        loaded.predict(str(PENGUINS))
    assert MODULE not in sys.modules


def test_the_command_line_tells_which_types_to_trust(run, capsys):
    assert main(["evaluate", str(run.folder.path), str(PENGUINS)]) == 2
    assert f"trusted=['{TYPE}']" in capsys.readouterr().err
    trust = ["--trust", TYPE, "--json"]
    assert main(["evaluate", str(run.folder.path), str(PENGUINS), *trust]) == 0


def test_a_class_that_is_gone_is_told(run, home, not_imported, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(home)])
    with pytest.raises(RunError, match=f"No module named '{MODULE}'. Its class has to"):
        kerastrain.load(run.folder, trusted=[TYPE]).predict(str(PENGUINS))


def test_it_cannot_be_exported(run, capsys):
    with pytest.raises(ConfigError, match="cannot be exported: its estimator, a class"):
        run.export("saved_model")
    assert main(["export", str(run.folder.path)]) == 2
    assert "is no Keras model" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"kerastrain\.load\(folder\)"):
        run.model.save(run.folder.path / "x.keras")


def test_a_regression_has_its_unit_and_its_intervals(home):
    run = kerastrain.train(
        str(PENGUINS),
        "body_mass_g",
        model=f"{MODULE}:Ridge",
        decision={"coverage": 0.8},
        out=str(home / "regression"),
        **QUIET,
    )
    assert run.metrics["test"]["r2"]["value"] > 0.7
    again = kerastrain.load(run.folder, trusted=[f"{MODULE}.Ridge"])
    found = again.predict(str(PENGUINS))
    pd.testing.assert_frame_equal(found, run.predict(str(PENGUINS)))
    assert list(found) == ["prediction", "lower", "upper"]


def test_it_is_no_member_of_an_ensemble_that_is_one_keras_model(home):
    run = kerastrain.train(
        str(PENGUINS),
        "species",
        model={
            "name": "auto",
            "members": ["naive_bayes", f"{MODULE}:Mine"],
            "folds": 1,
        },
        split={"folds": 1},
        exports=[],
        out=str(home / "auto"),
        **QUIET,
    )
    board = {
        row["model"]: row["status"] for row in run.metrics["leaderboard"]["entries"]
    }
    reason = f"failed: {MODULE}:Mine is no Keras model and cannot be exported."
    assert board[f"{MODULE}:Mine"] == reason
    assert board["naive_bayes"] == "fitted"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": f"{MODULE}:NoPredict"},
            "NoPredict is not a class with fit and pred",
        ),
        ({"model": f"{MODULE}:Needy"}, "Needy cannot be made: .*missing 1 required"),
        ({"model": keras.Sequential}, "Sequential is not a class with fit and predict"),
        (
            {"model": {"name": f"{MODULE}:Mine", "shrink": 1}},
            "Did you mean 'shrinkage'",
        ),
        (
            {"model": {"name": f"{MODULE}:Mine", "kind": np.float64}},
            "kind: .* cannot be written as YAML",
        ),
        (
            {"model": f"{MODULE}:Mine", "split": {"folds": 3}},
            "a single split: --folds 1",
        ),
        ({"model": f"{MODULE}:Absent"}, "has no 'Absent'"),
    ],
)
def test_what_cannot_work_is_told_before_data_are_read(home, settings, message):
    with pytest.raises(ConfigError, match=message):
        kerastrain.train("no_such_file.csv", "species", progress=False, **settings)


def test_a_fit_that_fails_is_told_in_one_line(home):
    message = "Needy: fit failed with RuntimeError: no luck today$"
    with pytest.raises(ConfigError, match=message):
        kerastrain.train(
            str(PENGUINS),
            "species",
            model={"name": f"{MODULE}:Needy", "size": 1},
            out=str(home / "fails"),
            **QUIET,
        )


def test_a_missing_skops_is_told_before_training(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops", None)
    with pytest.raises(MissingExtra, match="with the package 'skops': pip install 'ke"):
        kerastrain.train("none.csv", "species", model=f"{MODULE}:Mine", progress=False)
