"""Every entry of every table keeps the contract of its kind."""

import functools
import json

import keras
import numpy as np
import pytest

from kerastrain.arrays import ArrayStore
from kerastrain.columns import COLUMNS
from kerastrain.config import FeaturesConfig, ImbalanceConfig, ObjectiveConfig
from kerastrain.encoded import TrainValues
from kerastrain.estimator_learner import EstimatorLearner
from kerastrain.estimators import ESTIMATORS
from kerastrain.exports import EXPORTS
from kerastrain.exports.saved_model import saved_model
from kerastrain.features import Features, Front, NumberStatistics
from kerastrain.imbalance import Balance
from kerastrain.kernels import LEAST_LOGIT
from kerastrain.models import LEARNERS, MODELS
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows, cut
from kerastrain.prepare import Prepared
from kerastrain.schedules import SCHEDULES, Monitor, Steps
from kerastrain.schema import Column, ColumnStats, Schema, Target
from kerastrain.sources import SOURCES
from kerastrain.trackers import TRACKERS

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NAN = np.nan
TABLES = (SOURCES, COLUMNS, LEARNERS, SCHEDULES, EXPORTS, TRACKERS)
ENTRIES = [
    pytest.param(table, name, id=f"{table.kind}: {name}")
    for table in TABLES
    for name in table
]
every_entry = pytest.mark.parametrize(("table", "name"), ENTRIES)


# --- all tables -------------------------------------------------------------------


@every_entry
def test_every_entry_loads_and_tells_what_it_is_in_one_line(table, name):
    assert callable(table.load(name, trusted=False))
    line = table.describe(name)
    assert line.endswith(".")
    assert line[0].isupper()
    assert 15 <= len(line) <= 88


@every_entry
def test_every_option_has_a_default_that_passes_its_own_check_and_a_text(table, name):
    checked = table.check(name, {}, path="here")
    assert [*checked] == [*table.options(name)] == [*table.option_docs(name)]
    assert table.check(name, checked, path="here") == checked


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_type_has_the_four_verbs(name):
    kind = COLUMNS.load(name)()
    stats = ColumnStats(storage="string", num_rows=3, num_distinct=3, mean_chars=40)
    assert isinstance(kind.matches(stats), bool)
    described = kind.describe(stats)
    Column(name="c", type=name, stats=stats, **described)
    assert described["dtype"] in ("float32", "string")
    assert callable(kind.encode)
    assert callable(kind.to_input)


# --- schedules --------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total_steps", [1, 2, 3, 100])
@pytest.mark.parametrize("peak", [1e-5, 3.0])
def test_every_schedule_stays_from_0_to_the_rate(name, total_steps, peak):
    monitor = Monitor("val_loss", "min")
    steps = Steps(total_steps, max(1, total_steps // 3))
    rate = SCHEDULES.load(name)(peak, steps, monitor).learning_rate
    rates = [float(rate(step)) for step in range(total_steps + 5)]  # a run may go on
    assert all(0 <= r <= peak * 1.0001 for r in rates)
    assert rates[0] > 0


# --- models -----------------------------------------------------------------------

STATS = ColumnStats(storage="string", num_rows=0)
COLUMNS_OF = {
    "numbers": ["x", "gaps"],
    "categories": ["c", "d"],
    "both": ["x", "gaps", "c", "d"],
    "one number": ["x"],
    "one category": ["d"],
}
VALUES = {
    "c": TrainValues(["a", "b"], np.array([9, 8])),
    "d": TrainValues(),
}
RAW = {
    "x": np.array([1, 2, 3, NAN, 1e30], "float32"),
    "gaps": np.array([NAN, 2, NAN, 5, -np.inf], "float32"),
    "c": np.array(["a", "b", "", "new", "a "], object),
    "d": np.array(["", "x", "y", "", ""], object),
}


def front_of(names):
    columns = [
        Column(
            name=name,
            type="numeric" if RAW[name].dtype == "float32" else "categorical",
            dtype="float32" if RAW[name].dtype == "float32" else "string",
            input=name,
            stats=STATS,
        )
        for name in names
    ]
    return Front(Schema(columns=columns, num_rows=5), VALUES, FeaturesConfig())


class Whole:
    """A model of `MODELS` with head and decision, built as the learner builds it."""

    def __init__(self, name, mix, task="multiclass"):
        keras.utils.set_random_seed(0)
        front = front_of(COLUMNS_OF[mix])
        self.raw = {name: RAW[name] for name in front.inputs}
        self.clean = front.model(self.raw)
        width = len(front.number_names)
        numbers = self.clean["numbers"].numpy() if width else np.zeros((5, 0))
        statistics = NumberStatistics.of(numbers[:3], np.arange(3))
        labels = {"multiclass": ["a", "b", "c"], "binary": ["n", "y"]}.get(task, [])
        target = Target(name="y", task=task, labels=labels)
        goal = Objective.of(target, ObjectiveConfig(), np.array([0.0, 1, 2]))
        given = Features.of(front, statistics, goal.num_outputs)
        self.tensor = MODELS.load(name)(given)
        self.logits = goal.head(self.tensor)
        self.numeric = keras.Model(given.inputs, self.logits)
        decision = goal.decide(self.numeric(front.model(front.inputs)))
        self.model = keras.Model(front.inputs, decision)


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.mark.parametrize("mix", COLUMNS_OF)
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_every_model_makes_a_finite_row_of_floats_of_any_mix(name, mix, precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        whole = Whole(name, mix)
    finally:
        keras.config.set_dtype_policy(before)
    assert len(whole.tensor.shape) in (2, 3)  # 3: of members, each with its head
    assert whole.tensor.shape[0] is None
    assert whole.tensor.dtype in ("float32", "bfloat16")
    assert whole.logits.shape == (None, 3)
    assert whole.logits.dtype == "float32"
    assert np.isfinite(whole.numeric(whole.clean)).all()


@pytest.mark.parametrize(
    ("mix", "task"),
    [("both", "multiclass"), ("one number", "regression"), ("one category", "binary")],
)
def test_every_model_predicts_the_same_after_cut_save_and_load(
    name, mix, task, tmp_path
):
    whole = Whole(name, mix, task)
    prefix, core = cut(whole.numeric)
    assert core.trainable_variables
    core.compile(keras.optimizers.SGD(0.1), "mse")
    core.train_on_batch([*prefix(whole.clean).values()], whole.numeric(whole.clean) + 1)
    expected = whole.model(whole.raw)
    whole.model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    got = again(whole.raw)
    assert [*got] == [*expected]
    for key, tensor in expected.items():
        if tensor.dtype == "string":
            assert got[key].numpy().tolist() == tensor.numpy().tolist()
        else:
            np.testing.assert_allclose(got[key], tensor, rtol=1e-6, atol=1e-6)


def test_every_model_learns_from_its_columns(name):
    whole = Whole(name, "both", "regression")

    prefix, core = cut(whole.numeric)
    core.compile(keras.optimizers.Adam(0.02), "mse")
    before = {v.path: v.numpy() for v in core.trainable_variables}
    target = np.array([3, -1, 2, 0, 5.0])
    inputs = [*prefix(whole.clean).values()]
    first = core.train_on_batch(inputs, target)
    for _ in range(30):
        last = core.train_on_batch(inputs, target)
    assert last < first * 0.7
    for variable in core.trainable_variables:
        moved = np.abs(variable.numpy() - before[variable.path]).max()
        assert moved > 0, variable.path


# --- estimators -------------------------------------------------------------------

LABELS = {"binary": ["n", "y"], "multiclass": ["a", "b", "c", "d"], "regression": []}
CLASSES_ONLY = ("logistic_regression", "naive_bayes")
FITS = [
    (name, task)
    for name in ESTIMATORS
    for task in LABELS
    if task != "regression" or name not in CLASSES_ONLY
]
TINY = {"rounds": 8, "trees": 8, "max_rounds": 8}  # of the options that an entry has
NUM_ROWS, NUM_TRAIN = 90, 60


def table_of(task):
    """Raw columns with gaps, and targets, of which class 1 of 4 has no row."""
    rng = np.random.default_rng(0)
    raw = {
        "x": rng.normal(2, 2, NUM_ROWS).astype("float32"),
        "gaps": rng.normal(size=NUM_ROWS).astype("float32"),
        "c": rng.choice(np.array(["a", "b", ""], object), NUM_ROWS),
        "d": rng.choice(np.array(["", "x"], object), NUM_ROWS),
    }
    raw["gaps"][rng.random(NUM_ROWS) < 0.3] = NAN
    score = raw["x"] + 2.0 * (raw["c"] == "a") + rng.normal(size=NUM_ROWS)
    if task == "regression":
        return raw, 50 * score
    edges = np.quantile(score, [0.5] if task == "binary" else [0.4, 0.4, 0.7])
    return raw, np.digitize(score, edges)


@functools.cache
def prepared(task):
    raw, target = table_of(task)
    front = front_of(COLUMNS_OF["both"])
    arrays = {n: np.asarray(array) for n, array in front.model(raw).items()}
    train = np.arange(NUM_TRAIN)
    statistics = NumberStatistics.of(arrays["numbers"], train)
    goal = Target(name="y", task=task, labels=LABELS[task])
    weight = np.ones(NUM_ROWS, "float32")
    parts = (train, np.arange(NUM_TRAIN, NUM_ROWS), np.arange(0))
    return Prepared(
        front,
        statistics,
        Objective.of(goal, ObjectiveConfig(), target[train]),
        Balance(ImbalanceConfig(method="none"), np.zeros(0), statistics),
        *(Rows(arrays, target, weight, rows) for rows in parts),
        weight=None,
    )


@functools.cache
def fitted(name, task):
    """An estimator as a learner, fitted once for all tests."""
    options = {k: v for k, v in TINY.items() if k in ESTIMATORS.options(name)}
    data = prepared(task)
    estimator = ESTIMATORS.load(name)(**options)
    learner = EstimatorLearner(data, estimator, ArrayStore())
    learner.fit(data.train, data.validation)
    return learner


@pytest.mark.parametrize(("entry", "task"), FITS)
def test_every_estimator_gives_as_layers_what_it_gives_itself(entry, task):
    learner = fitted(entry, task)
    clean = {name: np.array(array) for name, array in learner.front.model(RAW).items()}
    clean["codes"][1] = 0
    own = learner.estimator.scores(clean["numbers"], clean["codes"])
    assert own.dtype == "float32"
    assert own.shape == (5, learner.objective.num_outputs)
    assert np.isfinite(own).all()
    np.testing.assert_allclose(learner.numeric(clean), own, rtol=1e-4, atol=1e-4)
    if task == "multiclass":
        assert (own[:, 1] == LEAST_LOGIT).all()
    assert np.std(learner.predict(prepared(task).train)) > 0
    assert not learner.model.trainable_variables


# --- a fresh process --------------------------------------------------------------

FROM_KERAS = """
import keras
from kerastrain.registered import register_all

register_all()

def loaded(path):
    return keras.saving.load_model(path / "model.keras", safe_mode=True)
"""
FROM_SAVED_MODEL = """
sys.modules["kerastrain"] = None  # it must stand on its own

def loaded(path):
    model = tf.saved_model.load(path / "saved_model")
    return lambda columns: model.signatures["serving_default"](**columns)
"""
ANSWERS = """
texts = json.loads(pathlib.Path(sys.argv[1], "raw.json").read_text())
raw = {name: tf.constant(values) for name, values in texts.items()}
for path in pathlib.Path(sys.argv[1]).glob("*/"):
    answers = {name: y.numpy().tolist() for name, y in loaded(path)(raw).items()}
    print(json.dumps([path.name, answers], default=bytes.decode))
"""
START = "import json, pathlib, sys\nimport tensorflow as tf\n"


@pytest.mark.slow
def test_every_learner_gives_the_same_in_a_fresh_process(tmp_path, run_python):
    models = {f"{name} {task}": fitted(name, task).model for name, task in FITS}
    models |= {name: Whole(name, "both").model for name in MODELS}
    for place, model in models.items():
        (tmp_path / place).mkdir()
        model.save(tmp_path / place / "model.keras")
        saved_model(model, tmp_path / place)
    raw = {name: values.tolist() for name, values in RAW.items()}
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    for loader in (FROM_KERAS, FROM_SAVED_MODEL):
        printed = run_python(START + loader + ANSWERS, str(tmp_path))
        answers = dict(json.loads(line) for line in printed.splitlines())
        assert answers.keys() == models.keys()
        for place, given in answers.items():
            check_answers(given, models[place](RAW), place)


def check_answers(given, expected, place):
    assert given.keys() == expected.keys(), place
    for key, tensor in expected.items():
        values = tensor.numpy()
        if values.dtype == object:
            assert given[key] == [text.decode() for text in values], place
        else:
            np.testing.assert_allclose(
                given[key], values, rtol=1e-4, atol=1e-5, err_msg=place
            )
