"""Permutation importance: how much worse the model is once a column says nothing.

Reference: Breiman 2001, "Random Forests", section 10; Fisher, Rudin and Dominici 2019.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
import sklearn
import tensorflow as tf

from kerastrain import evaluation
from kerastrain.explaining.predictor import Feed, Predictor, feed_of
from kerastrain.explaining.sample import HeldOut
from kerastrain.metrics import METRICS, Metric
from kerastrain.schema import Schema

__all__ = ["importance"]


def importance(
    predictor: Predictor,
    rows: HeldOut,
    schema: Schema,
    *,
    repeats: int = 5,
    draws: int = 30,
    seed: int = 0,
    until_s: float = math.inf,
) -> dict[str, Any]:
    """How much the primary metric loses when a column is shuffled.

    A column matters when the 95 % interval of its loss, over shuffles and over rows
    drawn with replacement, lies above 0.

    Args:
        repeats: shuffles of each column.
        draws: of the rows, for the interval: 30 tell its width to about an eighth.
        until_s: by `time.monotonic`; columns that are not reached are named.

    Returns:
        `metric`, `score` of the untouched rows, `columns`: `name`, `loss`, `spread`
        (of the shuffles), `low`, `high`, `matters`, most important first; and
        `unmeasured` names.
    """
    task = schema.target.task if schema.target else "regression"
    feed = feed_of(rows.raw, schema)
    judge = _Judge.of(task, rows, predictor.values(feed), draws, seed)
    random = np.random.default_rng(seed)
    found, unmeasured = [], []
    for column in schema.features:
        shuffles = [random.permutation(len(rows)) for _ in range(repeats)]
        if time.monotonic() > until_s:
            unmeasured.append(column.name)
            continue
        answers = _shuffled(predictor, feed, column.input, shuffles)
        found.append({"name": column.name} | judge.loss(answers))
    found.sort(key=lambda item: -(item["loss"] or 0.0))
    return {
        "metric": judge.name,
        "score": judge.score,
        "num_rows": len(rows),
        "repeats": repeats,
        "columns": found,
        "unmeasured": unmeasured,
    }


def _shuffled(
    predictor: Predictor, feed: Feed, name: str, shuffles: list[np.ndarray]
) -> np.ndarray:
    """`(repeats, rows, outputs)`: all shuffles of a column are asked at once."""
    num_rows = len(shuffles[0])
    many = {k: tf.tile(v, [len(shuffles)]) for k, v in feed.items() if k != name}
    many[name] = tf.gather(feed[name], np.concatenate(shuffles))
    return predictor.values(many).reshape(len(shuffles), num_rows, -1)


@dataclass(frozen=True)
class _Judge:
    """The primary metric on the rows and on draws of them.

    Args:
        scores: of the untouched rows in each draw, with a sign: more is better.
    """

    name: str
    metric: Metric
    rows: HeldOut
    draws: np.ndarray
    score: float
    scores: np.ndarray

    @classmethod
    def of(
        cls, task: str, rows: HeldOut, values: np.ndarray, num_draws: int, seed: int
    ) -> "_Judge":
        random = np.random.default_rng(seed)
        draws = random.integers(len(rows), size=(num_draws, len(rows)))
        names = [evaluation.primary(task), *METRICS[task]]
        for name in names:  # the first that is defined: AUC needs two classes
            metric = METRICS[task][name]
            score = _value(metric, rows, values)
            if math.isfinite(score):
                break
        each = [_value(metric, rows, values, draw) for draw in draws]
        return cls(name, metric, rows, draws, score, np.array(each))

    def loss(self, shuffled: np.ndarray) -> dict[str, Any]:
        """Shapes: `shuffled` is `(repeats, rows, outputs)`."""
        sign = 1.0 if self.metric.greater_is_better else -1.0
        values = [_value(self.metric, self.rows, values) for values in shuffled]
        losses = sign * (self.score - np.array(values))
        # Each draw takes another shuffle, so the spread is that of both.
        drawn = [
            sign * (before - _value(self.metric, self.rows, shuffled[i], draw))
            for i, (draw, before) in zip(
                np.arange(len(self.draws)) % len(shuffled),
                zip(self.draws, self.scores, strict=True),
                strict=True,
            )
        ]
        known = np.array(drawn)[np.isfinite(drawn)]
        error = float(known.std(ddof=1)) if len(known) > 1 else math.nan
        mean = float(losses.mean())
        half = error * float(scipy.stats.t.ppf(0.975, max(len(known) - 1, 1)))
        low = mean - half
        return {
            "loss": mean,
            "spread": float(losses.std(ddof=1)) if len(losses) > 1 else None,
            "low": low,
            "high": mean + half,
            # What the model does not look at changes by nothing but rounding.
            "matters": low > 1e-9,
        }


def _value(
    metric: Metric, rows: HeldOut, values: np.ndarray, draw: np.ndarray | None = None
) -> float:
    y, weight = rows.targets, rows.weight
    prediction = values if values.shape[1] > 1 else values[:, 0]
    if draw is not None:
        y, prediction = y[draw], prediction[draw]
        weight = None if weight is None else weight[draw]
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        return float(metric.function(y, prediction, weight))
