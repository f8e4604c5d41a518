"""What the report draws about predictions, as JSON types of bounded size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics

__all__ = ["curves"]

MAX_POINTS = 400
MAX_CLASSES = 30
MAX_PAIRS = 2_000
NUM_BINS = 10
NUM_BARS = 40


def curves(
    task: str,
    y: np.ndarray,
    prediction: np.ndarray,
    labels: Sequence[str],
    *,
    predicted: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Curves and tables of a test set.

    Binary: `roc`, `pr`, `confusion`, `calibration`, `scores`; multiclass:
    `confusion` and `per_class` of the largest 30 classes; regression: `pairs` (at most
    2,000 rows) and `residuals`. A part that is undefined is absent.

    Arguments and shapes are those of `kerastrain.evaluation.score`.
    """
    y, prediction = np.asarray(y), np.asarray(prediction)
    if not len(y):
        return {}
    if task == "regression":
        return _regression(y, prediction, seed)
    if predicted is None:
        predicted = prediction.argmax(axis=1)
    confusion = _confusion(y, predicted, labels)
    if task == "multiclass":
        return {"confusion": confusion, "per_class": _per_class(y, predicted, labels)}
    return {"confusion": confusion} | _binary(y, prediction[:, 1].astype(np.float64))


def _binary(y: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "calibration": _calibration(y, positive),
        "scores": _score_bars(y, positive),
    }
    if len(np.unique(y)) > 1:
        false_rate, true_rate, _ = metrics.roc_curve(y, positive)
        parts["roc"] = _thinned(
            false_positive_rate=false_rate, true_positive_rate=true_rate
        )
        precision, recall, _ = metrics.precision_recall_curve(
            y, positive, drop_intermediate=True
        )
        parts["pr"] = _thinned(recall=recall[::-1], precision=precision[::-1])
    return parts


def _thinned(**axes: np.ndarray) -> dict[str, list[float]]:
    """At most `MAX_POINTS` points of a curve, evenly along its length."""
    lengths = sum(np.abs(np.diff(values)) for values in axes.values())
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted = np.linspace(0, along[-1], MAX_POINTS)
    chosen = np.unique(np.searchsorted(along, wanted).clip(max=len(along) - 1))
    return {name: _rounded(values[chosen]) for name, values in axes.items()}


def _calibration(y: np.ndarray, positive: np.ndarray) -> dict[str, list]:
    """Predicted and observed share of the positive class in bins of equal count."""
    edges = np.unique(np.quantile(positive, np.linspace(0, 1, NUM_BINS + 1)))
    bins = np.searchsorted(edges[1:-1], positive, side="right")
    counts = np.bincount(bins)
    filled = counts > 0
    counts = counts[filled]
    predicted = np.bincount(bins, weights=positive)[filled] / counts
    observed = np.bincount(bins, weights=y)[filled] / counts
    return {
        "predicted": _rounded(predicted),
        "observed": _rounded(observed),
        "count": counts.tolist(),
    }


def _score_bars(y: np.ndarray, positive: np.ndarray) -> dict[str, list]:
    """How the predicted probability is spread, for each class of `y`."""
    edges = np.linspace(0, 1, NUM_BARS + 1)
    negative_count, positive_count = (
        np.histogram(positive[y == label], bins=edges)[0].tolist() for label in (0, 1)
    )
    return {
        "edges": _rounded(edges),
        "negative": negative_count,
        "positive": positive_count,
    }


def _largest(y: np.ndarray, num_classes: int) -> np.ndarray:
    """Class numbers in their order, the `MAX_CLASSES` with the most rows."""
    counts = np.bincount(y, minlength=num_classes)
    return np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES])


def _confusion(
    y: np.ndarray, predicted: np.ndarray, labels: Sequence[str]
) -> dict[str, Any]:
    """Counts of rows, true class down and predicted class across."""
    every = np.arange(len(labels))
    counts = metrics.confusion_matrix(y, predicted, labels=every)
    shown = _largest(y, len(labels))
    return {
        "labels": [labels[index] for index in shown],
        "counts": counts[np.ix_(shown, shown)].tolist(),
        "num_hidden": len(labels) - len(shown),
    }


def _per_class(
    y: np.ndarray, predicted: np.ndarray, labels: Sequence[str]
) -> dict[str, list]:
    shown = _largest(y, len(labels))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        y, predicted, labels=shown, zero_division=0
    )
    return {
        "labels": [labels[index] for index in shown],
        "precision": _rounded(precision),
        "recall": _rounded(recall),
        "f1": _rounded(f1),
        "count": support.tolist(),
    }


def _regression(y: np.ndarray, prediction: np.ndarray, seed: int) -> dict[str, Any]:
    y, prediction = y.astype(np.float64), prediction.astype(np.float64)
    chosen = np.arange(len(y))
    if len(y) > MAX_PAIRS:
        random = np.random.default_rng(seed)
        chosen = np.sort(random.choice(len(y), MAX_PAIRS, replace=False))
    pairs = {"true": _rounded(y[chosen]), "predicted": _rounded(prediction[chosen])}
    return {"pairs": pairs, "residuals": _residual_bars(prediction - y)}


def _residual_bars(residuals: np.ndarray) -> dict[str, Any]:
    """Histogram between the outermost 0.5 %, which would flatten the rest."""
    low, high = np.quantile(residuals, [0.005, 0.995])
    inside = residuals[(residuals >= low) & (residuals <= high)]
    counts, edges = np.histogram(inside, bins=NUM_BARS)
    return {
        "edges": _rounded(edges),
        "counts": counts.tolist(),
        "num_outside": len(residuals) - len(inside),
    }


def _rounded(values: np.ndarray) -> list[float]:
    """To six significant digits, which halves the size of the report."""
    return [float(f"{value:.6g}") for value in values]
