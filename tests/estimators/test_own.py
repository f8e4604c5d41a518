"""Classes of the user's own with fit and predict."""

import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import BayesianRidge, RidgeClassifier

from kerastrain.errors import ConfigError, MissingExtra, RunError
from kerastrain.estimator import Examples, Setting
from kerastrain.estimators.own import is_own, load, wrap
from kerastrain.events import recording
from kerastrain.features import NumberStatistics

CLASSES = {"binary": 2, "multiclass": 3, "regression": 0}


class Stump(ClassifierMixin, BaseEstimator):
    """Has no probabilities and takes no weights."""

    def __init__(self, column=0, seen=()):
        self.column = column
        self.seen = seen

    def fit(self, x, y):
        assert np.isfinite(x).all()
        self.classes_ = np.unique(y)
        self.edges_ = np.quantile(x[:, self.column], [0.5, 0.8])
        return self

    def predict(self, x):
        places = np.digitize(x[:, self.column], self.edges_)
        return self.classes_[np.minimum(places, len(self.classes_) - 1)]


def table(task, num_rows=120, seed=0):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(num_rows, 2)).astype("float32")
    codes = rng.integers(0, 4, (num_rows, 1)).astype("int32")
    y = (numbers[:, 0] + 0.3 * (codes[:, 0] == 2)).astype("float32")
    numbers[::7, 1] = np.nan
    if CLASSES[task]:
        y = np.digitize(y, [0, 1][: CLASSES[task] - 1]).astype("int32")
    return Examples(numbers, codes, y)


def fitted(cls, task, rows=None, **options):
    rows = rows or table(task)
    statistics = NumberStatistics.of(rows.numbers, np.arange(len(rows)))
    estimator = wrap(cls, options)
    setting = Setting(task, CLASSES[task], (4,), statistics, seed=3)
    estimator.learn(rows, table(task, seed=1), setting)
    return estimator


CASES = [
    (LinearDiscriminantAnalysis, "binary"),
    (LinearDiscriminantAnalysis, "multiclass"),
    (RidgeClassifier, "binary"),
    (RidgeClassifier, "multiclass"),
    (Stump, "multiclass"),
    (Stump, "binary"),
    (BayesianRidge, "regression"),
]


@pytest.mark.parametrize(("cls", "task"), CASES)
def test_a_class_of_the_users_learns_and_comes_back_from_its_file(cls, task, tmp_path):
    estimator, new = fitted(cls, task), table(task, seed=2)
    scores = estimator.scores(new.numbers, new.codes)
    assert scores.shape == (len(new), max(1, CLASSES[task] * (task == "multiclass")))
    if task == "binary":
        assert np.mean((scores[:, 0] > 0) == new.targets) > 0.8
    elif task == "multiclass":
        assert np.mean(scores.argmax(1) == new.targets) > 0.7
    else:
        assert np.mean((scores[:, 0] - new.targets) ** 2) < 0.1
    estimator.save(tmp_path / "own.skops")
    again = load(tmp_path / "own.skops", trusted=[f"{__name__}.Stump"])
    np.testing.assert_array_equal(again.scores(new.numbers, new.codes), scores)


def test_only_listed_types_are_loaded(tmp_path):
    fitted(Stump, "binary").save(tmp_path / "own.skops")
    message = rf"holds types that are not trusted: {__name__}.Stump. If you know them"
    with pytest.raises(RunError, match=message):
        load(tmp_path / "own.skops")


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "own.skops").write_bytes(b"no zip")
    with pytest.raises(RunError, match="cannot be read as a file of skops"):
        load(tmp_path / "own.skops")


def test_what_skops_cannot_write_is_told(tmp_path):
    estimator = fitted(Stump, "binary", seen=(x for x in "ab"))
    with pytest.raises(ConfigError, match="Stump cannot be saved by skops"):
        estimator.save(tmp_path / "own.skops")


def test_a_missing_skops_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(MissingExtra, match="with the package 'skops': pip install"):
        load(tmp_path / "own.skops")


def test_it_says_that_it_cannot_be_exported_and_what_to_do():
    estimator = fitted(Stump, "binary")
    assert not estimator.is_exportable
    with pytest.raises(ConfigError, match="not exported. To export, take a model of"):
        estimator.layers(None)


def test_weights_count_or_it_is_told_that_they_do_not():
    rows = table("binary")
    weight = np.where(rows.targets > 0, 9, 1).astype("float32")
    weighed = Examples(rows.numbers, rows.codes, rows.targets, weight)
    with recording() as recorder:
        heavy = fitted(RidgeClassifier, "binary", weighed)
        assert not recorder.events
        fitted(Stump, "binary", weighed)
    assert [event.code for event in recorder.events] == ["weights_ignored"]
    plain = fitted(RidgeClassifier, "binary")
    assert heavy.model_.intercept_[0] > plain.model_.intercept_[0]


def test_seed_and_threads_are_given_where_they_are_taken():
    estimator = fitted(RidgeClassifier, "binary", alpha=2.0)
    assert estimator.model_.random_state == 3
    assert estimator.model_.alpha == 2.0


def test_classes_without_a_train_row_and_one_class_do_not_break_it():
    rows = table("multiclass")
    rows.targets[:] = np.resize([0, 2], len(rows))
    scores = fitted(LinearDiscriminantAnalysis, "multiclass", rows).scores(
        rows.numbers, rows.codes
    )
    assert (scores[:, 1] <= -30).all()
    rows.targets[:] = 1
    scores = fitted(Stump, "multiclass", rows).scores(rows.numbers, rows.codes)
    assert (scores.argmax(1) == 1).all()


def test_options_it_does_not_have_are_refused():
    with pytest.raises(ConfigError, match="Stump has no option 'colum'. Did you mean"):
        wrap(Stump, {"colum": 1})


@pytest.mark.parametrize(
    ("thing", "expected"), [(Stump, True), (Stump(), False), (len, False), (int, False)]
)
def test_what_has_fit_and_predict_is_an_own_class(thing, expected):
    assert is_own(thing) is expected
