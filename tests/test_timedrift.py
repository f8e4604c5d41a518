import types

import numpy as np
import pytest

from kerastrain.baselines import EncodedTable
from kerastrain.events import recording
from kerastrain.pipeline import Rows
from kerastrain.schema import Column, ColumnStats, Schema, Target
from kerastrain.timedrift import measure_drift, warn_of_time

RNG = np.random.default_rng(0)
NUM_ROWS = 2000
DAYS = RNG.permutation(NUM_ROWS).astype("float64")
X = RNG.normal(size=(NUM_ROWS, 3)).astype("float32")
NOISE = RNG.normal(size=NUM_ROWS)
STEADY = X[:, 0] + 0.3 * NOISE
# What a column means changes with time.
DRIFTING = np.where(DAYS > 1500, -1, 1) * X[:, 0] + 0.3 * NOISE


def table(y, numbers=X):
    return EncodedTable(numbers, np.zeros((NUM_ROWS, 0), "int32"), y)


def test_a_steady_world_shows_no_difference():
    drift = measure_drift("regression", table(STEADY), DAYS)
    assert drift.metric == "rmse"
    assert np.mean(drift.random) == pytest.approx(0.3, abs=0.03)
    assert abs(drift.loss) <= drift.spread


def test_a_world_that_changes_costs_more_on_the_latest_rows():
    drift = measure_drift("regression", table(DRIFTING), DAYS)
    assert drift.loss > max(drift.spread, 0.3)


def test_classes_are_scored_by_their_own_metric():
    y = (DRIFTING > 0).astype("int32")
    drift = measure_drift("binary", table(y), DAYS, num_classes=2)
    assert (drift.metric, drift.greater_is_better) == ("roc_auc", True)
    assert drift.loss > max(drift.spread, 0.3)


NOTHING_TO_SEE = {
    "few rows": (STEADY, DAYS, slice(0, 100)),
    "one time": (STEADY, np.zeros(NUM_ROWS), slice(None)),
    "two times of which the later has most rows": (STEADY, DAYS > 300, slice(None)),
}


@pytest.mark.parametrize("case", NOTHING_TO_SEE)
def test_where_time_cannot_be_cut_nothing_is_measured(case):
    y, time, rows = NOTHING_TO_SEE[case]
    part = EncodedTable(X[rows], np.zeros((len(y[rows]), 0), "int32"), y[rows])
    assert measure_drift("regression", part, np.asarray(time[rows], "float64")) is None


def test_late_rows_of_one_class_are_not_scored():
    y = (DAYS < 1000).astype("int32")
    assert measure_drift("binary", table(y), DAYS, num_classes=2) is None


def told(y, keys=None):
    """Events about encoded columns `x`, `when` (dates) and `born` (dates with gaps)."""

    def column(name, kind):
        stats = ColumnStats(storage="string", num_rows=NUM_ROWS)
        return Column(name=name, type=kind, input=name, stats=stats)

    names = ("x", "born.elapsed_days", "when.elapsed_days")
    born = np.where(DAYS % 2 == 0, np.nan, -DAYS)
    numbers = np.stack([X[:, 0], born, DAYS], axis=1).astype("float32")
    columns = [("x", "numeric"), ("born", "datetime"), ("when", "datetime")]
    front = types.SimpleNamespace(
        number_names=names, of_kind=lambda kind: [(column(*c), None) for c in columns]
    )
    train = Rows({"numbers": numbers}, y, np.ones(NUM_ROWS), np.arange(NUM_ROWS))
    data = types.SimpleNamespace(front=front, train=train, weight=None)
    schema = Schema(
        columns=[],
        num_rows=NUM_ROWS,
        target=Target(name="y", task="regression"),
        keys=keys or {},
    )
    with recording(listen=lambda event: None) as recorder:
        warn_of_time(data, schema)
    return recorder.events


def test_a_time_that_the_split_ignores_at_a_cost_is_warned_of():
    (event,) = told(DRIFTING)
    assert (event.code, event.severity) == ("time_not_used", "warning")
    assert event.details["columns"] == ["when"]
    assert event.details["late"] > event.details["random"]
    assert event.message.startswith("Column 'when' holds times, and the split does not")
    assert event.message.endswith("--time-column when")


def test_a_time_that_costs_nothing_is_noted():
    (event,) = told(STEADY)
    assert event.severity == "info"
    assert "which is no worse than the repeats vary" in event.message


def test_a_split_that_goes_by_a_column_is_left_alone():
    stats = ColumnStats(storage="string", num_rows=NUM_ROWS)
    key = Column(name="when", type="datetime", stats=stats)
    assert told(DRIFTING, keys={"time": key}) == []
