"""Metrics as losses of the mean of many predictions, fast enough to try thousands."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sklearn

from kerastrain.metrics import METRICS, Metric, area

__all__ = ["Loss"]

SAMPLE_ROWS = 10_000  # for metrics that take more than a pass over the rows

# Of a mean of parts, targets and weights `(rows,)`.
Quick = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Loss:
    """A metric as something to be made small, over all rows or a sample of them.

    Args:
        metric: of the same predictions as they are.
        quick: what stands for it, where there is something; less is better.
        num_classes: 0 in a regression.
        rows: those it looks at.
        targets, weight: of these rows.
    """

    metric: Metric
    quick: Quick | None
    num_classes: int
    rows: np.ndarray
    targets: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(
        cls,
        targets: np.ndarray,
        metric: Metric,
        num_classes: int,
        weight: np.ndarray | None,
    ) -> "Loss":
        if weight is None or not weight.any():
            weight = np.ones(len(targets))
        rows, weight = np.flatnonzero(weight > 0), weight.astype("float64")
        known = [
            name
            for table in METRICS.values()
            for name, one in table.items()
            if one == metric
        ]
        name = known[0] if known else ""
        most = SAMPLE_ROWS // (num_classes if name == "roc_auc_ovr" else 1)
        if name not in _WHOLE and len(rows) > most:
            rows, weight = _sampled(rows, targets, weight, num_classes, most)
        quick = _QUICK.get(name)
        return cls(metric, quick, num_classes, rows, targets[rows], weight[rows])

    def part(self, prediction: np.ndarray) -> np.ndarray:
        """What of a member's prediction counts; linear in it."""
        chosen = prediction[self.rows]
        if self.quick is _log_loss:
            return chosen[np.arange(len(chosen)), self.targets].astype("float64")
        return chosen[:, 1] if self.num_classes == 2 else chosen

    def __call__(self, part: np.ndarray) -> float:
        if self.quick is not None:
            value = float(self.quick(part, self.targets, self.weight))
            return value if np.isfinite(value) else np.inf
        two = self.num_classes == 2
        given = np.stack([1 - part, part], axis=1) if two else part
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            value = float(self.metric.function(self.targets, given, self.weight))
        value = -value if self.metric.greater_is_better else value
        return value if np.isfinite(value) else np.inf


def _sampled(
    rows: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray,
    num_classes: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Some rows, evenly spaced, of each class: they stand for the others by weight."""
    if not num_classes:
        return rows[:: -(-len(rows) // most)], weight
    classes, weight, chosen = np.unique(targets[rows]), weight.copy(), []
    for one in classes:
        own = rows[targets[rows] == one]
        step = -(-len(own) // max(50, most // len(classes)))
        chosen.append(own[::step])
        weight[own] *= weight[own].sum() / weight[own[::step]].sum()
    return np.sort(np.concatenate(chosen)), weight


# --- the metrics of `METRICS` in a few operations; less is better -------------------


def _log_loss(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    return -(weight @ np.log(np.clip(part, 1e-7, 1))) / weight.sum()


def _squares(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    return weight @ np.square(part - targets) / weight.sum()


def _mae(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    return weight @ np.abs(part - targets) / weight.sum()


def _roc_auc(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    return -area(targets == 1, part, weight)


def _pr_auc(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(-part, kind="stable")
    last = np.flatnonzero(np.append(np.diff(part[order]) != 0, True))
    true = np.cumsum((weight * (targets == 1))[order])[last]
    precision = true / np.cumsum(weight[order])[last]
    return -(np.diff(true, prepend=0) @ precision) / true[-1] if true[-1] else np.nan


def _accuracy(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    return -(weight @ (_labels(part) == targets)) / weight.sum()


def _f1(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    return -_f1_of_each(_labels(part), targets, weight)[-1]


def _macro_f1(part: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> float:
    return -np.nanmean(_f1_of_each(_labels(part), targets, weight))


def _labels(part: np.ndarray) -> np.ndarray:
    return part.argmax(axis=1) if part.ndim == 2 else (part > 0.5).astype("int64")


def _f1_of_each(
    labels: np.ndarray, targets: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """By class up to the highest there is; NaN where it is nowhere."""
    size = max(1, labels.max(), targets.max()) + 1
    true = np.bincount(targets, weight, size)
    named = np.bincount(labels, weight, size)
    both = np.bincount(targets, weight * (labels == targets), size)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * both / (true + named)


# The RMSE is least, and R² highest, where the squares are least.
_QUICK: dict[str, Quick] = {
    "log_loss": _log_loss,
    "brier": _squares,
    "rmse": _squares,
    "r2": _squares,
    "mae": _mae,
    "roc_auc": _roc_auc,
    "pr_auc": _pr_auc,
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
}
# One pass over the rows, so none has to be left out.
_WHOLE = ("log_loss", "brier", "rmse", "r2", "mae")
