"""How good predictions are: metrics with intervals, beside a baseline, in a sentence.

Every metric is scikit-learn's. Intervals come from the bootstrap: the test rows are
drawn with replacement, scored, and the spread of the scores is told. Above
`MAX_DRAWN` rows the m-out-of-n bootstrap is used (Bickel, Götze and van Zwet 1997):
m rows are drawn and the spread is scaled by sqrt(m / n), so the cost stays bounded.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn

from kerastrain.errors import DivergenceError
from kerastrain.metrics import METRICS, Metric

__all__ = [
    "METRICS",
    "Metric",
    "compare",
    "evaluate",
    "most_rows",
    "num_decimals",
    "primary",
    "score",
    "verdict",
]

MAX_DRAWN = {"binary": 10_000, "multiclass": 5_000, "regression": 10_000}
NUM_DRAWS = {"binary": 200, "multiclass": 100, "regression": 200}
SMALLEST_DRAWS = 20  # fewer defined draws than this say nothing about a spread

Array = np.ndarray
Weight = np.ndarray | None
Scores = dict[str, float | None]
Estimate = dict[str, float | None]


def most_rows(num_outputs: int) -> int:
    """Rows that are scored at most: scikit-learn copies them in float64 several times.

    The standard error of an AUC of two million rows is 0.0005 at most.
    """
    return min(2_000_000, 20_000_000 // max(1, num_outputs))


def primary(task: str) -> str:
    """Name of the metric by which models of this task are compared."""
    return next(iter(METRICS[task]))


def score(
    task: str,
    y: Array,
    prediction: Array,
    *,
    weight: Weight = None,
    predicted: Array | None = None,
) -> Scores:
    """Every metric of the task; None where it is undefined, as AUC with one class.

    Args:
        predicted: class that each row is given, `(rows,)`, where it is not the most
            probable one; see `Decision.classes`.

    Shapes: `y` is `(rows,)`, class numbers or values; `prediction` is `(rows, classes)`
    of probabilities, or `(rows,)` of values; `weight` is `(rows,)`.

    Raises:
        DivergenceError: a prediction is NaN or infinite.
    """
    rows = _Rows.checked(task, y, prediction, weight, predicted)
    return _scores(METRICS[task], rows)


def evaluate(
    task: str,
    y: Array,
    prediction: Array,
    *,
    weight: Weight = None,
    predicted: Array | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every metric with its 95 % bootstrap interval: `{"value", "low", "high"}`.

    Arguments, shapes and errors are those of `score`; a seed gives the same digits.
    """
    rows = _Rows.checked(task, y, prediction, weight, predicted)
    table = METRICS[task]
    point = _scores(table, rows)
    drawn = [
        _scores(table, rows.take(draw)) for draw in _draws(task, len(rows.y), seed)
    ]
    scale = _scale(task, len(rows.y))
    estimates = {}
    for name, value in point.items():
        deviations = _deviations([scores[name] for scores in drawn]) * scale
        estimates[name] = _estimate(value, deviations, table[name])
    return estimates


def compare(
    task: str,
    y: Array,
    ours: Array,
    theirs: Array,
    *,
    weight: Weight = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Paired bootstrap of the primary metric's difference; above 0 ours is better.

    Returns:
        `metric`, `ours` and `theirs` (its values), `difference`, its 95 % interval
        `low` to `high`, and `probability_better`, the share of draws in which ours
        wins. Numbers are None where the metric is undefined.
    """
    name = primary(task)
    table = {name: METRICS[task][name]}
    sign = 1.0 if table[name].greater_is_better else -1.0
    pair = [_Rows.checked(task, y, prediction, weight) for prediction in (ours, theirs)]
    num_rows = len(pair[0].y)

    def difference(
        rows: list[_Rows],
    ) -> tuple[float | None, float | None, float | None]:
        one, other = (_scores(table, part)[name] for part in rows)
        gain = None if one is None or other is None else sign * (one - other)
        return one, other, gain

    value_ours, value_theirs, gain = difference(pair)
    drawn = [
        difference([part.take(draw) for part in pair])[2]
        for draw in _draws(task, num_rows, seed)
    ]
    result = {"metric": name, "ours": value_ours, "theirs": value_theirs}
    return result | _difference(gain, _deviations(drawn) * _scale(task, num_rows))


def verdict(task: str, comparison: dict[str, Any], *, baseline: str) -> str:
    """The sentence a person wants: better or not, by how much, how sure.

    Args:
        comparison: what `compare` gave.
        baseline: what it was compared with, such as `"linear"`.
    """
    metric = METRICS[task][comparison["metric"]]
    gain, low, high = (comparison[key] for key in ("difference", "low", "high"))
    if gain is None:
        return f"No verdict: {metric.title} is not defined on these test rows."
    digits = num_decimals(comparison["ours"], low, high)
    ours, theirs = (f"{comparison[key]:,.{digits}f}" for key in ("ours", "theirs"))
    numbers = f"the {baseline} baseline: {metric.title} {ours} against {theirs}"
    if low is None:
        return f"Too few test rows to compare with {numbers}."
    shown = _gain_text(metric, comparison, digits)
    if low > 0:
        return f"Better than {numbers}, {shown})."
    if high < 0:
        return f"Worse than {numbers}, {shown})."
    return f"Not clearly better than {numbers}, {shown}, which includes 0)."


def _gain_text(metric: Metric, comparison: dict[str, Any], digits: int) -> str:
    """`"+0.025 (95 % interval 0.018 to 0.033"`, or `"1.2 lower (..."`."""
    gain, low, high = (comparison[key] for key in ("difference", "low", "high"))
    change = f"{gain:+,.{digits}f}"
    if not metric.greater_is_better:
        change = f"{abs(gain):,.{digits}f} {'lower' if gain >= 0 else 'higher'}"
        low, high = (low, high) if gain >= 0 else (-high, -low)
    return f"{change} (95 % interval {low:,.{digits}f} to {high:,.{digits}f}"


def num_decimals(value: float, low: float | None, high: float | None) -> int:
    """Decimals that show about two digits of the interval's half width."""
    half = 0.0 if low is None or high is None else (high - low) / 2
    reference = half if half > 0 else max(abs(value), 1.0) / 100
    return int(np.clip(-math.floor(math.log10(reference / 5)), 0, 5))


@dataclass(frozen=True)
class _Rows:
    """What is scored, checked and of one length: see `score`."""

    y: Array
    prediction: Array
    weight: Weight
    predicted: Array | None = None

    @classmethod
    def checked(
        cls,
        task: str,
        y: Array,
        prediction: Array,
        weight: Weight,
        predicted: Array | None = None,
    ) -> "_Rows":
        y, prediction = np.asarray(y), np.asarray(prediction)
        if task != "regression":
            prediction = _normalised(prediction)
        num_bad = int((~np.isfinite(prediction)).sum())
        if num_bad:
            raise DivergenceError(
                f"{num_bad:,} of {prediction.size:,} predictions are not finite. "
                "Lower optimizer.learning_rate, or look for extreme numbers."
            )
        if weight is None:
            return cls(y, prediction, None, predicted)
        weight = np.asarray(weight)
        rows = cls(y, prediction, weight, predicted)
        # A class of which no row counts would make AUC and macro F1 undefined.
        is_needless = weight.any() and not weight.all()
        return rows.take(weight > 0) if is_needless else rows

    def take(self, draw: Array) -> "_Rows":
        return _Rows(
            self.y[draw],
            self.prediction[draw],
            None if self.weight is None else self.weight[draw],
            None if self.predicted is None else self.predicted[draw],
        )

    def value(self, metric: Metric) -> float:
        has_labels = metric.of_labels and self.predicted is not None
        given = {"predicted": self.predicted} if has_labels else {}
        return float(metric.function(self.y, self.prediction, self.weight, **given))


def _normalised(probabilities: Array) -> Array:
    """Rows that sum to 1: in half precision they miss it by up to 1 %.

    The type stays, because scikit-learn clips the log loss by its resolution.
    """
    kept = np.float64 if probabilities.dtype == np.float64 else np.float32
    exact = probabilities.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (exact / exact.sum(axis=1, keepdims=True)).astype(kept)


def _scores(table: dict[str, Metric], rows: _Rows) -> Scores:
    is_empty = len(rows.y) == 0 or (rows.weight is not None and not rows.weight.any())
    if is_empty:
        return dict.fromkeys(table)
    # The rows were checked once; checking them in every draw doubles the time.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        values = {name: rows.value(metric) for name, metric in table.items()}
    return {name: v if math.isfinite(v) else None for name, v in values.items()}


def _draws(task: str, num_rows: int, seed: int) -> Iterator[np.ndarray]:
    """Row numbers drawn with replacement, one array for each draw."""
    random = np.random.default_rng(seed)
    num_drawn = min(num_rows, MAX_DRAWN[task])
    for _ in range(NUM_DRAWS[task] if num_rows > 1 else 0):
        yield random.integers(num_rows, size=num_drawn)


def _scale(task: str, num_rows: int) -> float:
    return math.sqrt(min(num_rows, MAX_DRAWN[task]) / max(num_rows, 1))


def _deviations(values: list[float | None]) -> Array:
    """Of the defined values from their mean.

    Around the mean and not around the value of all rows, because a metric such as
    macro F1 is lower in a draw that misses rare classes.
    """
    known = np.array([value for value in values if value is not None])
    if len(known) < SMALLEST_DRAWS:
        return np.array([])
    return known - known.mean()


def _interval(value: float, deviations: Array) -> tuple[float, float]:
    low, high = np.quantile(deviations, [0.025, 0.975])
    return value + float(low), value + float(high)


def _estimate(value: float | None, deviations: Array, metric: Metric) -> Estimate:
    if value is None or not len(deviations):
        return {"value": value, "low": None, "high": None}
    low, high = _interval(value, deviations)
    if metric.greater_is_better:
        high = min(high, metric.best)
    else:
        low = max(low, metric.best)
    return {"value": value, "low": low, "high": high}


def _difference(gain: float | None, deviations: Array) -> Estimate:
    names = ("difference", "low", "high", "probability_better")
    if gain is None or not len(deviations):
        return dict.fromkeys(names) | {"difference": gain}
    low, high = _interval(gain, deviations)
    share = float((gain + deviations > 0).mean())
    return dict(zip(names, (gain, low, high, share), strict=True))
