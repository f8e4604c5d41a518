"""The metrics of each task: scikit-learn's, with a title and a direction."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics

__all__ = ["METRICS", "Metric", "area"]

Array = np.ndarray
Weight = np.ndarray | None
Function = Callable[..., float]


@dataclass(frozen=True)
class Metric:
    """A function of `(y, prediction, weight)`; NaN where it is not defined.

    Args:
        of_labels: it is about labels alone. Its function then also takes `predicted`,
            class numbers `(rows,)`, which are the most probable classes by default.
    """

    function: Function
    greater_is_better: bool
    title: str
    of_labels: bool = False

    @property
    def best(self) -> float:
        """The value of a perfect prediction."""
        return 1.0 if self.greater_is_better else 0.0


def _has_one_class(y: Array) -> bool:
    return bool((y == y[0]).all())


def _two_classes(function: Callable[..., float]) -> Function:
    """A metric of the positive probability that needs both classes in `y`."""

    def of_positive(y: Array, prediction: Array, weight: Weight) -> float:
        if _has_one_class(y):
            return math.nan
        return function(y, prediction[:, 1], sample_weight=weight)

    return of_positive


def _classes(prediction: Array, predicted: Array | None) -> Array:
    return prediction.argmax(axis=1) if predicted is None else predicted


def _of_class(function: Callable[..., float], **options: Any) -> Function:
    """A metric of the predicted class."""

    def of_class(
        y: Array, prediction: Array, weight: Weight, predicted: Array | None = None
    ) -> float:
        predicted = _classes(prediction, predicted)
        return function(y, predicted, sample_weight=weight, **options)

    return of_class


def _log_loss(y: Array, prediction: Array, weight: Weight) -> float:
    labels = np.arange(prediction.shape[1])
    return metrics.log_loss(y, prediction, sample_weight=weight, labels=labels)


def _brier(y: Array, prediction: Array, weight: Weight) -> float:
    positive = prediction[:, 1]
    return metrics.brier_score_loss(y, positive, sample_weight=weight, labels=[0, 1])


def _mcc(
    y: Array, prediction: Array, weight: Weight, predicted: Array | None = None
) -> float:
    if _has_one_class(y):
        return math.nan
    predicted = _classes(prediction, predicted)
    return metrics.matthews_corrcoef(y, predicted, sample_weight=weight)


def _roc_auc_ovr(y: Array, prediction: Array, weight: Weight) -> float:
    """Mean over the classes that `y` holds, each against the rest."""
    if _has_one_class(y):
        return math.nan
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, "float64")
    areas = [area(y == k, prediction[:, k], weight) for k in np.unique(y)]
    return float(np.mean(areas))


def area(is_class: Array, scores: Array, weight: Array) -> float:
    """What `roc_auc_score` gives, without its checks: 300 classes take 4 ms, not 90."""
    order = np.argsort(scores, kind="stable")
    scores, weight, is_class = scores[order], weight[order], is_class[order]
    below = np.concatenate([[0.0], np.cumsum(np.where(is_class, 0.0, weight))])
    own, own_weight = scores[is_class], weight[is_class]
    lower = below[np.searchsorted(scores, own, side="left")]
    upper = below[np.searchsorted(scores, own, side="right")]
    total = own_weight.sum() * below[-1]
    # A tie counts half.
    return float((lower + upper) @ own_weight / (2 * total)) if total else math.nan


def _of_values(function: Callable[..., float], *, least_rows: int = 1) -> Function:
    def of_values(y: Array, prediction: Array, weight: Weight) -> float:
        if len(y) < least_rows or (least_rows > 1 and _has_one_class(y)):
            return math.nan
        return function(y, prediction, sample_weight=weight)

    return of_values


_accuracy = _of_class(metrics.accuracy_score)
# A class that is neither present nor predicted is left out of the mean.
_f1 = _of_class(metrics.f1_score, zero_division=np.nan)
_macro_f1 = _of_class(metrics.f1_score, average="macro", zero_division=np.nan)

METRICS: dict[str, dict[str, Metric]] = {
    "binary": {
        "roc_auc": Metric(_two_classes(metrics.roc_auc_score), True, "ROC AUC"),
        "pr_auc": Metric(_two_classes(metrics.average_precision_score), True, "PR AUC"),
        "log_loss": Metric(_log_loss, False, "Log loss"),
        "accuracy": Metric(_accuracy, True, "Accuracy", of_labels=True),
        "f1": Metric(_f1, True, "F1", of_labels=True),
        "mcc": Metric(_mcc, True, "MCC", of_labels=True),
        "brier": Metric(_brier, False, "Brier score"),
    },
    "multiclass": {
        "log_loss": Metric(_log_loss, False, "Log loss"),
        "accuracy": Metric(_accuracy, True, "Accuracy", of_labels=True),
        "macro_f1": Metric(_macro_f1, True, "Macro F1", of_labels=True),
        "roc_auc_ovr": Metric(_roc_auc_ovr, True, "ROC AUC (one against the rest)"),
    },
    "regression": {
        "rmse": Metric(_of_values(metrics.root_mean_squared_error), False, "RMSE"),
        "mae": Metric(_of_values(metrics.mean_absolute_error), False, "MAE"),
        "r2": Metric(_of_values(metrics.r2_score, least_rows=2), True, "R²"),
        "median_ae": Metric(
            _of_values(metrics.median_absolute_error), False, "Median absolute error"
        ),
    },
}
