"""The probability from which on the positive class is predicted. NumPy only."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kerastrain.events import warn

__all__ = ["Found", "best_threshold"]

Array = np.ndarray
# Of the weights of true and false positives, and of all positives and negatives.
Formula = Callable[..., Array]
# The median over draws was better than the best of all rows in each of six cases tried:
# F1 0.4604 against 0.4572 on new rows with 200 rows, 0.4747 against 0.4724 with 1,000.
NUM_DRAWS = 25
DRAWN_ROWS = 50_000


@dataclass(frozen=True)
class Found:
    """A threshold, the metric there, and the metric at 0.5; NaN where undefined."""

    threshold: float
    value: float
    plain: float


def best_threshold(
    positive: Array,
    is_positive: Array,
    weight: Array | None = None,
    *,
    metric: str,
    at: float = 0.8,
) -> Found:
    """The threshold of the best metric: the median over bootstrap draws.

    Each lies midway between two probabilities; of equally good ones it is the nearest
    to 0.5. With a limit to reach it is that of all rows.

    Args:
        positive: probability of the positive class, `(rows,)`.
        is_positive: whether it is the true one.
        weight: of each row.
        metric: `f1`, `mcc`, `accuracy`, `balanced_accuracy`, `precision_at_recall` or
            `recall_at_precision`.
        at: recall or precision that the last two have to reach.

    Raises:
        KeyError: no such metric.
    """
    if weight is None or not weight.any():
        weight = np.ones(len(positive))
    score = _Score(_FORMULAS[metric], at if metric in _WITH_LIMIT else None)
    rows = _Rows(np.asarray(positive, "float32"), np.asarray(is_positive, bool), weight)
    cuts = rows.cuts()
    threshold = score.best(cuts)
    if threshold is None:
        warn(
            "threshold_kept",
            f"No threshold gives a {metric} on the rows not trained on, and 0.5 is "
            "kept. Give rows of both classes, or ask for less (decision.at).",
        )
        return Found(0.5, math.nan, math.nan)
    if metric not in _WITH_LIMIT:  # which the median might miss
        drawn = [score.best(draw.cuts()) for draw in rows.draws()]
        known = [one for one in drawn if one is not None]
        threshold = float(np.float32(np.median(known))) if known else threshold
    return Found(threshold, score.of(cuts, threshold), score.of(cuts, 0.5))


@dataclass(frozen=True)
class _Score:
    """A metric of all thresholds at once; `at` where there is a limit."""

    formula: Formula
    at: float | None

    def __call__(self, cuts: "_Cuts") -> Array:
        limit = () if self.at is None else (self.at,)
        return self.formula(
            cuts.true, cuts.false, cuts.positives, cuts.negatives, *limit
        )

    def best(self, cuts: "_Cuts") -> float | None:
        """The threshold nearest to 0.5 of the best; None where none is defined."""
        values = self(cuts)
        values = np.where(np.isfinite(values), values, -np.inf)
        if values.max() == -np.inf:
            return None
        best = cuts.thresholds[values >= values.max() - 1e-12]
        return float(best[np.abs(best - 0.5).argmin()])

    def of(self, cuts: "_Cuts", threshold: float) -> float:
        """The metric at a threshold; NaN where it is not defined."""
        return float(self(cuts)[(cuts.least >= np.float32(threshold)).sum()])


@dataclass(frozen=True)
class _Rows:
    """Probabilities of the positive class, whether it is the true one, and weights."""

    positive: Array
    is_positive: Array
    weight: Array

    def draws(self) -> Iterator["_Rows"]:
        """Rows drawn with replacement, the same ones in every call."""
        random, size = np.random.default_rng(0), min(len(self.positive), DRAWN_ROWS)
        for _ in range(NUM_DRAWS):
            draw = random.integers(len(self.positive), size=size)
            yield _Rows(self.positive[draw], self.is_positive[draw], self.weight[draw])

    def cuts(self) -> "_Cuts":
        """What each threshold gives."""
        order = np.argsort(-self.positive, kind="stable")
        p, w = self.positive[order], self.weight[order].astype("float64")
        is_true = self.is_positive[order]
        last = np.flatnonzero(np.append(p[1:] != p[:-1], True))
        true = np.append(0.0, np.cumsum(w * is_true)[last])
        false = np.append(0.0, np.cumsum(w * ~is_true)[last])
        least = p[last]
        bounds = np.concatenate([[np.float32(1)], least, [np.float32(0)]])
        # Between neighbours there may be no float32: then it is the upper of them.
        middles = ((bounds[:-1].astype("float64") + bounds[1:]) / 2).astype("float32")
        upper = np.append(np.nextafter(np.float32(1), np.float32(2)), least)
        thresholds = np.where(middles > bounds[1:], middles, upper)
        return _Cuts(thresholds, least, true, false, float(true[-1]), float(false[-1]))


@dataclass(frozen=True)
class _Cuts:
    """What each threshold gives; the first lets no row be positive, the last all.

    Args:
        least: of the probabilities at or above each threshold but the first.
        true, false: weight of the true and false positives.
    """

    thresholds: Array
    least: Array
    true: Array
    false: Array
    positives: float
    negatives: float


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _f1(true: Array, false: Array, positives: float, negatives: float) -> Array:
    return _ratio(2 * true, true + false + positives)


def _accuracy(true: Array, false: Array, positives: float, negatives: float) -> Array:
    return (true + negatives - false) / (positives + negatives)


def _balanced(true: Array, false: Array, positives: float, negatives: float) -> Array:
    rest = negatives - false
    recall = _ratio(true, np.full_like(true, positives))
    return (recall + _ratio(rest, np.full_like(rest, negatives))) / 2


def _mcc(true: Array, false: Array, positives: float, negatives: float) -> Array:
    named = true + false
    rest = positives + negatives - named
    product = true * (negatives - false) - false * (positives - true)
    # 0 where all rows get one label, as in scikit-learn.
    spread = np.sqrt(named * rest * positives * negatives)
    return np.where(spread > 0, _ratio(product, spread), 0.0)


def _precision(
    true: Array, false: Array, positives: float, negatives: float, at: float
) -> Array:
    recall = _ratio(true, np.full_like(true, positives))
    return np.where(recall >= at - 1e-12, _ratio(true, true + false), np.nan)


def _recall(
    true: Array, false: Array, positives: float, negatives: float, at: float
) -> Array:
    precision = _ratio(true, true + false)
    recall = _ratio(true, np.full_like(true, positives))
    return np.where(precision >= at - 1e-12, recall, np.nan)


_WITH_LIMIT = ("precision_at_recall", "recall_at_precision")
_FORMULAS: dict[str, Formula] = {
    "f1": _f1,
    "mcc": _mcc,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced,
    "precision_at_recall": _precision,
    "recall_at_precision": _recall,
}
