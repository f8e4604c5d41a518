"""What a random split hides where rows have a time: the loss towards the future."""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from kerastrain.baselines import EncodedTable, fit_baselines
from kerastrain.evaluation import METRICS, num_decimals, primary
from kerastrain.events import finding
from kerastrain.prepare import Prepared
from kerastrain.schema import Schema

__all__ = ["TimeDrift", "measure_drift", "warn_of_time"]

_MAX_ROWS = 12_000
_MIN_ROWS = 200
_NUM_REPEATS = 3
_LATE = 0.2
# Drawn in each repeat. Halves of the test rows vary as much as whole new sets would.
_DRAWN_TRAIN, _DRAWN_TEST = 0.8, 0.5
_MIN_PRESENT = 0.9
_MIN_TIMES = 10
_PART = "elapsed_days"  # in `ParseDate.PARTS`


@dataclass(frozen=True)
class TimeDrift:
    """Scores of a quick linear model in the primary metric, one for each repeat.

    Args:
        random: trained and tested on random rows.
        late: trained on the first 80 % in time, tested on the rest.
    """

    metric: str
    greater_is_better: bool
    random: list[float]
    late: list[float]

    @property
    def loss(self) -> float:
        """By how much late rows are predicted worse than random ones."""
        difference = float(np.mean(self.random) - np.mean(self.late))
        return difference if self.greater_is_better else -difference

    @property
    def spread(self) -> float:
        """How far the repeats lie apart, both kinds together."""
        return float(np.ptp(self.random) + np.ptp(self.late))


def warn_of_time(data: Prepared, schema: Schema, *, seed: int = 0) -> None:
    """Tell what a split by time would show, where rows have a time that it ignores.

    Nothing is done where the split goes by a column, or no column holds times. Only
    train rows are looked at.
    """
    assert schema.target is not None
    found = None if schema.keys else _time_of(data)
    if found is None:
        return
    name, rows, time = found
    inputs, y, _ = data.train.take(rows)
    table = EncodedTable(
        inputs.get("numbers", np.zeros((len(rows), 0), "float32")),
        inputs.get("codes", np.zeros((len(rows), 0), "int32")),
        y,
        None if data.weight is None else data.weight[data.train.index[rows]],
    )
    drift = measure_drift(
        schema.target.task,
        table,
        time,
        num_classes=len(schema.target.labels),
        seed=seed,
    )
    if drift is not None:
        _tell(name, METRICS[schema.target.task][drift.metric].title, drift)


def _time_of(data: Prepared) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Column of times, positions of a sample of train rows, and their times.

    Of several columns the one with clearly most different times, else the first.
    """
    random = np.random.default_rng(0)
    sample = np.sort(random.permutation(len(data.train))[:_MAX_ROWS])
    names = data.front.number_names
    best: tuple[str, np.ndarray, np.ndarray] | None = None
    most = 0.0
    for column, _ in data.front.of_kind("number"):
        if column.type != "datetime":
            continue
        at = names.index(f"{column.name}.{_PART}")
        time = data.train.inputs["numbers"][data.train.index[sample], at]
        present = ~np.isnan(time)
        num_times = len(np.unique(time[present]))
        is_full = present.mean() >= _MIN_PRESENT and num_times >= _MIN_TIMES
        if is_full and num_times > most:
            most = 1.1 * num_times
            best = column.name, sample[present], time[present].astype("float64")
    return best


def measure_drift(
    task: str,
    table: EncodedTable,
    time: np.ndarray,
    *,
    num_classes: int = 0,
    seed: int = 0,
) -> TimeDrift | None:
    """Score the linear baseline on random rows and on the latest ones.

    Both are trained on equally many rows. None where there are too few rows or times,
    or too few classes among the late rows, to tell.

    Args:
        time: float64 `(rows,)` without gaps, larger is later.
    """
    is_late = _late_rows(time)
    if len(time) < _MIN_ROWS or is_late is None:
        return None
    random = np.random.default_rng(seed)
    order = np.argsort(time, kind="stable")
    by_time = np.concatenate([order[~is_late[order]], order[is_late[order]]])
    scores: dict[str, list[float]] = {"random": [], "late": []}
    for _ in range(_NUM_REPEATS):
        for kind, rows in (("random", random.permutation(order)), ("late", by_time)):
            early, late = np.split(rows, [-int(is_late.sum())])
            train = _drawn(early, _DRAWN_TRAIN, random)
            test = _drawn(late, _DRAWN_TEST, random)
            scores[kind].append(_score(task, table, train, test, num_classes))
    if not np.isfinite([*scores["random"], *scores["late"]]).all():
        return None
    name = primary(task)
    is_greater = METRICS[task][name].greater_is_better
    return TimeDrift(name, is_greater, scores["random"], scores["late"])


def _late_rows(time: np.ndarray) -> np.ndarray | None:
    """bool `(rows,)`; None where no cut leaves enough on both sides.

    Equal times stay together.
    """
    if not len(time):
        return None
    cut = np.quantile(time, 1 - _LATE, method="higher")
    for is_late in (time >= cut, time > cut):
        if _LATE / 4 <= is_late.mean() <= 0.5:
            return is_late
    return None


def _drawn(rows: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """A share of the rows, in their order."""
    chosen = random.permutation(len(rows))[: int(share * len(rows))]
    return rows[np.sort(chosen)]


def _score(
    task: str,
    table: EncodedTable,
    train: np.ndarray,
    test: np.ndarray,
    num_classes: int,
) -> float:
    """In the primary metric; the last rows to train on choose the model's strength."""
    num_validation = len(train) // 5
    # Threads wait for each other: ten times slower where the cores are busy.
    with threadpool_limits(1):
        fitted = fit_baselines(
            task,
            table,
            train_rows=train[:-num_validation],
            validation_rows=train[-num_validation:],
            test_rows=test,
            num_classes=num_classes,
        )
    metric = METRICS[task][primary(task)]
    predicted = fitted.predictions["linear"]
    return float(metric.function(table.y[test], predicted, table.weight_of(test)))


def _tell(column: str, metric: str, drift: TimeDrift) -> None:
    random, late = float(np.mean(drift.random)), float(np.mean(drift.late))
    half = drift.spread / 4
    digits = num_decimals(random, random - half, random + half)
    is_worse = drift.loss > drift.spread
    shown = (
        f"The {metric} of a quick linear model is {random:,.{digits}f} "
        f"(±{np.ptp(drift.random) / 2:,.{digits}f}) on random rows and "
        f"{late:,.{digits}f} (±{np.ptp(drift.late) / 2:,.{digits}f}) on the latest"
    )
    meaning = "which is no worse than the repeats vary"
    if is_worse:
        meaning = "so the scores of a random split are too good for the future"
    finding(
        "time_not_used",
        f"Column '{column}' holds times, and the split does not go by them. {shown}, "
        f"{meaning}. To test on the latest rows: --time-column {column}",
        columns=[column],
        severity="warning" if is_worse else "info",
        metric=drift.metric,
        random=random,
        late=late,
        spread=drift.spread,
    )
