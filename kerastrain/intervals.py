"""Prediction intervals of a regression that hold the truth as often as they say.

Conformal prediction: how far predictions of rows not trained on were off tells how wide
an interval has to be. Whatever the model, it then holds a new row's true value with the
probability asked for, as long as the new row is of the same kind as those rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kerastrain.events import note, warn
from kerastrain.layers_decision import IntervalWidth
from kerastrain.piecewise import Piecewise

__all__ = ["Intervals"]

NUM_FOLDS = 5
MAX_BINS = 10
BIN_ROWS = 50  # the quantile of fewer says little
LEAST_SHARE = 0.05  # of the median error, so that no interval has a width of 0


@dataclass(frozen=True)
class Intervals:
    """Half the width of an interval, by predicted value.

    Args:
        coverage: share of the true values that intervals are to hold.
        width: the same everywhere, or wider where errors were larger.

    Reference: Lei et al. 2018, "Distribution-free predictive inference for regression",
    sections 2.2 and 5.2; with errors of other folds as in Barber et al. 2021,
    "Predictive inference with the jackknife+". DIFFERS: the folds' models
    are averaged first, not their intervals, so that serving costs nothing more.
    """

    coverage: float
    width: Piecewise

    @classmethod
    def fit(
        cls,
        values: np.ndarray,
        targets: np.ndarray,
        weight: np.ndarray | None = None,
        *,
        coverage: float = 0.9,
    ) -> "Intervals":
        """From what was predicted for rows not trained on.

        Widths go by the predicted value where that makes intervals clearly better by
        the interval score (Gneiting and Raftery 2007), else they are all the same.

        Args:
            values: predicted, in the unit of the target, `(rows,)`, at least one.
            targets: true values.
            weight: of each row; rows of weight 0 count as no rows.
        """
        errors = _Errors.of(values, targets, weight, coverage)
        level = errors.quantile(errors.sizes)
        widths = np.full(len(errors.sizes), level)
        width, kind = Piecewise.level(level), "constant"
        other = errors.held_scales()
        if other is not None:
            factor = errors.quantile(errors.sizes / other)
            if errors.is_better(other * factor, widths):
                found = errors.scale()
                # Held-out rows were judged by other scales; this one holds its own too.
                own = errors.quantile(errors.sizes / found(errors.values))
                factor = max(factor, own)
                width = Piecewise(found.x, tuple(y * factor for y in found.y))
                kind = "by predicted value"
        note(
            "intervals_fitted",
            f"Prediction intervals hold {coverage:.0%} of the true values; their width "
            f"is {kind}, from the errors on {len(errors.sizes):,} rows not trained on.",
            width=kind,
            rows=len(errors.sizes),
        )
        return cls(coverage, width)

    def __call__(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends, float32 of the same shape."""
        values = np.asarray(values, "float32")
        width = self.width(values)
        return values - width, values + width

    def outputs(self, value: Any) -> dict[str, Any]:
        """The same as Keras tensors, `lower` and `upper`."""
        width = IntervalWidth(self.width.x, self.width.y)(value)
        return {
            "lower": ops.subtract(value, width),
            "upper": ops.add(value, width),
        }

    def measured(
        self, values: np.ndarray, targets: np.ndarray, weight: np.ndarray | None = None
    ) -> dict[str, float]:
        """How often rows that nothing was chosen on lie inside, for `metrics.json`."""
        lower, upper = self(values)
        is_inside = (targets >= lower) & (targets <= upper)
        if weight is not None and not weight.any():
            weight = None
        return {
            "coverage": self.coverage,
            "measured": float(np.average(is_inside, weights=weight)),
            "mean_width": float(np.average(upper - lower, weights=weight)),
        }


@dataclass(frozen=True)
class _Errors:
    """Sizes of errors of rows not trained on, float64; weights of mean 1."""

    values: np.ndarray
    sizes: np.ndarray
    weight: np.ndarray
    coverage: float

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        targets: np.ndarray,
        weight: np.ndarray | None,
        coverage: float,
    ) -> "_Errors":
        weight = np.ones(len(values)) if weight is None else weight.astype("float64")
        counted = weight > 0 if weight.any() else np.ones(len(values), bool)
        weight = weight[counted] if weight.any() else np.ones(len(values))
        values = np.asarray(values, "float64")[counted]
        sizes = np.abs(np.asarray(targets, "float64")[counted] - values)
        return cls(values, sizes, weight / weight.mean(), coverage)

    def quantile(self, scores: np.ndarray) -> float:
        """Below which a new row's score is with the probability asked for.

        The new row counts too, as one that may be beyond all: with few rows the
        quantile is more than that of the scores.
        """
        order = np.argsort(scores)
        reached = np.cumsum(self.weight[order])
        wanted = self.coverage * (len(scores) + 1)
        place = int(np.searchsorted(reached, wanted - 1e-9))
        if place == len(scores):
            warn(
                "intervals_few_rows",
                f"Intervals that hold {self.coverage:.0%} of the true values need more "
                f"than the {len(scores)} rows not trained on: they reach as far as the "
                "largest error seen, which may be less. Give more validation rows, or "
                "ask for less (decision.coverage).",
                rows=len(scores),
            )
            place -= 1
        return float(scores[order[place]])

    def scale(self) -> Piecewise:
        """Size of errors by predicted value, from bins of about equal count."""
        num_bins = min(MAX_BINS, len(self.values) // BIN_ROWS)
        order = np.argsort(self.values, kind="stable")
        bins = np.array_split(order, num_bins)
        least = max(float(np.median(self.sizes)) * LEAST_SHARE, 1e-30)
        x = np.array([self.values[rows].mean() for rows in bins])
        y = np.array([np.quantile(self.sizes[rows], self.coverage) for rows in bins])
        spread = max(x[-1] - x[0], 1e-30)
        kept = np.append(True, np.diff(x) > 1e-3 * spread)  # no cliffs
        return Piecewise.of(x[kept], np.maximum(y, least)[kept])

    def held_scales(self) -> np.ndarray | None:
        """`scale` of each row from the others; None where there are too few rows."""
        place = np.arange(len(self.values)) % NUM_FOLDS
        if len(self.values) < 4 * BIN_ROWS or np.ptp(self.values) == 0:
            return None
        scales = np.empty(len(self.values))
        for number in range(NUM_FOLDS):
            held = place == number
            scales[held] = self.take(~held).scale()(self.values[held])
        return scales

    def take(self, chosen: np.ndarray) -> "_Errors":
        return _Errors(
            self.values[chosen], self.sizes[chosen], self.weight[chosen], self.coverage
        )

    def is_better(self, widths: np.ndarray, others: np.ndarray) -> bool:
        """By more than the standard error of the difference of interval scores."""
        gains = self.weight * (self._scores(others) - self._scores(widths))
        return bool(gains.mean() > gains.std() / np.sqrt(len(gains)))

    def _scores(self, widths: np.ndarray) -> np.ndarray:
        """Width, and what is paid for each row outside."""
        outside = np.maximum(self.sizes - widths, 0)
        return 2 * widths + 2 / (1 - self.coverage) * outside
