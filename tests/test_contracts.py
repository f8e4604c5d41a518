"""Every entry of every table keeps the contract of its kind."""

import keras
import numpy as np
import pytest

from kerastrain.columns import COLUMNS
from kerastrain.config import FeaturesConfig, ObjectiveConfig
from kerastrain.encoded import TrainValues
from kerastrain.exports import EXPORTS
from kerastrain.features import Features, Front, NumberStatistics
from kerastrain.models import MODELS
from kerastrain.objective import Objective
from kerastrain.pipeline import cut
from kerastrain.schedules import SCHEDULES, Monitor, Steps
from kerastrain.schema import Column, ColumnStats, Schema, Target
from kerastrain.sources import SOURCES
from kerastrain.trackers import TRACKERS

# Keras 3.15 with NumPy 2 says so whenever a variable is read.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)

NAN = np.nan
TABLES = (SOURCES, COLUMNS, MODELS, SCHEDULES, EXPORTS, TRACKERS)
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
    rank = len(whole.tensor.shape)
    assert rank == 2
    assert whole.tensor.shape[0] is None
    assert whole.tensor.dtype in ("float32", "bfloat16")
    assert whole.logits.shape == (None, 3)
    assert whole.logits.dtype == "float32"
    assert np.isfinite(whole.numeric(whole.clean)).all()


@pytest.mark.parametrize("mix", ["both", "one number", "one category"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
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
