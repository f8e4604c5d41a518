"""How well a column alone predicts the target, on rows that did not teach it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kerastrain.quality.sample import Sample, Values

__all__ = ["column_auc", "single_column_scores"]

_MAX_BINS = 256
_EDGE_ROWS = 5_000
# A line is tried where this share of the numbers is present.
_MIN_PRESENT = 0.99


def single_column_scores(sample: Sample) -> dict[str, float]:
    """Score of each feature alone, at most 1.

    AUC for two classes, the share of the errors of a guess that it avoids for more,
    R2 for numbers.
    """
    folds = _folds(len(sample.y))
    score = {"binary": _auc_of, "multiclass": _avoided_errors, "regression": _r2_of}
    of = score[sample.target.task]
    return {name: of(values, sample.y, folds) for name, values in sample.inputs.items()}


def column_auc(values: np.ndarray, is_second: np.ndarray) -> float:
    """How well a column of numbers tells two sides apart: 0.5 not at all, 1 fully.

    Shapes: both `(rows,)`; NaN in `values` counts as a value of its own.
    """
    return _auc_of(values, is_second.astype("float64"), _folds(len(values)))


def _folds(num_rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, num_rows)


def _codes(values: Values) -> np.ndarray:
    """A small integer for each value, or for each bin of numbers; int64."""
    if isinstance(values, pa.Array):
        return values.dictionary_encode().indices.to_numpy().astype("int64")
    present = values[~np.isnan(values)]
    if not len(present):
        return np.zeros(len(values), "int64")
    few = present[:: -(-len(present) // _EDGE_ROWS)]
    edges = np.unique(np.quantile(few, np.linspace(0, 1, _MAX_BINS)))
    bins = np.searchsorted(edges, values)
    # A frequent value that is an edge gets a code of its own.
    is_edge = edges[np.minimum(bins, len(edges) - 1)] == values
    return np.where(np.isnan(values), 2 * len(edges) + 1, 2 * bins + is_edge)


@dataclass(frozen=True)
class _Guess:
    """The mean of `y` per code, learnt on the other half of the rows.

    A code counts one row of the overall mean, so that rare ones say little. Each array
    is `(2, codes)`, by the half that is guessed.
    """

    counts: np.ndarray
    sums: np.ndarray
    fitted: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, y: np.ndarray, folds: np.ndarray) -> "_Guess":
        size = int(codes.max(initial=0)) + 1
        cells = folds * size + codes
        counts = np.bincount(cells, minlength=2 * size).reshape(2, size)
        sums = np.bincount(cells, weights=y, minlength=2 * size).reshape(2, size)
        priors = sums.sum(axis=1) / np.maximum(1, counts.sum(axis=1))
        fitted = (sums + priors[:, None]) / (counts + 1)
        return cls(counts, sums, fitted[::-1])


def _auc_of(values: Values, y: np.ndarray, folds: np.ndarray) -> float:
    """Area under the ROC curve, from the counts per code: no row is sorted."""
    guess = _Guess.of(_codes(values), y, folds)
    scores, place = np.unique(guess.fitted.ravel(), return_inverse=True)
    positive = np.bincount(place, weights=guess.sums.ravel(), minlength=len(scores))
    all_rows = np.bincount(place, weights=guess.counts.ravel(), minlength=len(scores))
    negative = all_rows - positive
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2  # a tie counts half
    return float(positive @ below / pairs) if pairs else 0.0


def _r2_of(values: Values, y: np.ndarray, folds: np.ndarray) -> float:
    y = y - y.mean()
    spread = float(y @ y)
    if not spread:
        return 0.0
    guess = _Guess.of(_codes(values), y, folds)
    explained = guess.fitted * (2 * guess.sums - guess.counts * guess.fitted)
    return max(float(explained.sum()) / spread, _line_r2(values, y))


def _line_r2(values: Values, y: np.ndarray) -> float:
    """Of a straight line, in the values or in their ranks; finer than any bins."""
    if not isinstance(values, np.ndarray):
        return 0.0
    present = ~np.isnan(values)
    if present.mean() < _MIN_PRESENT:
        return 0.0
    x, y = values[present].astype("float64"), y[present]
    return max(_correlation(x, y) ** 2, _correlation(_ranks(x), _ranks(y)) ** 2)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale else 0.0


def _avoided_errors(values: Values, y: np.ndarray, folds: np.ndarray) -> float:
    """Share of the errors of always guessing the largest class that are avoided by
    guessing the most frequent class of a code, learnt on the other half."""
    codes, classes = _codes(values), y.astype("int64")
    shape = int(codes.max(initial=0)) + 1, int(classes.max(initial=0)) + 1
    is_right = np.empty(len(y), bool)
    for fold in (0, 1):
        here, there = folds == fold, folds != fold
        cells = codes[there] * shape[1] + classes[there]
        counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
        prior = counts.sum(axis=0) / max(1, there.sum())
        guess = (counts + prior).argmax(axis=1)
        is_right[here] = guess[codes[here]] == classes[here]
    chance = np.bincount(classes).max() / len(y)
    return float((is_right.mean() - chance) / max(1e-9, 1 - chance))
