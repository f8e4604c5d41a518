"""Estimators used directly, as in Keras, without a run."""

import importlib.util

import keras
import numpy as np
import pandas as pd
import pytest

import kerastrain.estimators
from kerastrain.errors import ConfigError, RunError
from kerastrain.registered import register_all

# A package of another library's own.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)


def frame(num_rows=300, seed=0):
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(
        {
            "age": rng.normal(40, 10, num_rows).round(1),
            "city": rng.choice(["Rome", "Paris", "Oslo"], num_rows),
            "kind": pd.Categorical(rng.choice(["a", "b"], num_rows)),
        }
    )
    x.loc[::9, "age"] = np.nan
    is_yes = (x["age"].fillna(0) > 40) ^ (x["city"] == "Oslo")
    return x, pd.Series(np.where(is_yes, "yes", "no"), name="bought")


@pytest.fixture(scope="module")
def fitted():
    x, y = frame()
    estimator = kerastrain.estimators.SklearnMlp(max_rounds=40, learning_rate=0.01)
    return estimator.fit(x, y, validation_data=frame(100, seed=1))


def test_it_learns_from_a_frame_and_predicts_labels(fitted):
    x, y = frame(200, seed=2)
    scores = fitted.evaluate(x, y)
    assert scores["accuracy"]["value"] > 0.9
    found = fitted.predict(x)
    assert list(found) == ["prediction", "probability_no", "probability_yes"]
    assert np.mean(found["prediction"] == y) == pytest.approx(
        scores["accuracy"]["value"]
    )


def test_its_model_takes_raw_columns_and_outlives_its_file(fitted, tmp_path):
    fitted.save(tmp_path / "model.keras")
    register_all()
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    feed = {
        "age": np.array([50.0, np.nan], "float32"),
        "city": np.array(["Rome", "new"], object),
        "kind": np.array(["a", ""], object),
    }
    feed = {k: keras.ops.convert_to_tensor(v) for k, v in feed.items()}
    got, expected = again(feed), fitted.model(feed)
    assert got["prediction"].numpy().tolist() == expected["prediction"].numpy().tolist()


@pytest.mark.slow
def test_it_is_exported_and_checked(fitted, tmp_path):
    path = fitted.export(tmp_path)
    assert (path / "saved_model.pb").is_file() or any(path.rglob("saved_model.pb"))


def test_a_matrix_and_an_array_with_weights_are_enough():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype("float32")
    y = 3 * x[:, 0] - x[:, 2]
    weight = np.ones(200)
    weight[:100], y[:100] = 0, 100.0
    model = kerastrain.estimators.Ridge(penalties=[0.1], squash="log")
    model.fit(x, y, sample_weight=weight, validation_split=0.2)
    assert model.model.input.keys() == {"x_0", "x_1", "x_2"}
    assert list(model.predict(x)) == ["prediction"]
    assert model.evaluate(x, y, sample_weight=weight)["r2"]["value"] > 0.8
    assert model.evaluate(x, y)["r2"]["value"] < 0.5
    model = kerastrain.estimators.Ridge().fit(
        x, y, validation_data=(x, y, weight), sample_weight=weight, seconds=5
    )
    assert model.learner.fitted.notes["penalty"] < 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package"), [("LightGBM", "lightgbm"), ("RandomForest", "sklearn")]
)
def test_trees_are_used_likewise(name, package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    x, y = frame()
    model = getattr(kerastrain.estimators, name)()
    assert model.fit(x, y, seed=1) is model
    assert model.evaluate(x, y)["accuracy"]["value"] > 0.85


def test_every_entry_has_a_class_with_its_options_told():
    for entry in kerastrain.estimators.ESTIMATORS:
        name = kerastrain.estimators.ESTIMATORS[entry].partition(":")[2].split()[0]
        assert name in dir(kerastrain.estimators)
        cls = getattr(kerastrain.estimators, name)
        assert cls.entry == entry
        assert cls.__name__ == name
        for option in kerastrain.estimators.ESTIMATORS.options(entry):
            assert f"    {option}: " in cls.__doc__
    assert repr(kerastrain.estimators.Ridge(penalties=[1])) == (
        "Ridge(penalties=[1.0], squash='log', bins=32, pairs=20)"
    )


def test_reading_the_table_loads_nothing_heavy(run_python):
    code = (
        "import sys, kerastrain.estimators; kerastrain.estimators.ESTIMATORS;"
        "print(sorted(sys.modules.keys() & {'tensorflow', 'sklearn', 'lightgbm'}))"
    )
    assert run_python(code).strip() == "[]"


def test_what_is_wrong_is_told():
    with pytest.raises(AttributeError, match="no attribute 'Rige'. Did you mean 'Ridg"):
        kerastrain.estimators.Rige  # noqa: B018
    with pytest.raises(ConfigError, match="estimators.ridge has no option 'penalty'"):
        kerastrain.estimators.Ridge(penalty=1)
    with pytest.raises(RunError, match="Ridge has not learnt yet: call fit"):
        kerastrain.estimators.Ridge().predict([[1.0]])
    x = np.zeros((4, 1))
    with pytest.raises(ConfigError, match="sample_weight has 3 values for 4 rows"):
        kerastrain.estimators.Ridge().fit(x, x[:, 0], sample_weight=[1, 1, 1])
    with pytest.raises(ConfigError, match=r"validation_data should be \(x, y\) or"):
        kerastrain.estimators.Ridge().fit(x, x[:, 0], validation_data=x)
