"""Columns that know the answer: how well each one alone predicts the target."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain.columns import COLUMNS
from kerastrain.events import warn
from kerastrain.schema import Column, Target
from kerastrain.statistics import Cells

__all__ = ["single_column_scores", "warn_of_leaks"]

_MIN_SCORE = 0.99
# A leak's error is at least this many times smaller than that of the best honest
# column; where more than half of the columns (and more than two) are nearly perfect
# the task is easy, not leaking.
_MIN_RATIO = 3.0
_MAX_LEAKS = 2
_MIN_ROWS = 50
_MAX_BINS = 256
_MAX_CLASSES = 50
_TYPES = ("numeric", "boolean", "categorical")
_MEASURE = {"binary": "AUC", "multiclass": "accuracy above chance", "regression": "R2"}


def warn_of_leaks(cells: Cells, columns: Sequence[Column], target: Target) -> None:
    """Warn of columns that predict the target almost perfectly on their own."""
    scores = single_column_scores(cells, columns, target)
    leaks = {name: s for name, s in scores.items() if s >= _MIN_SCORE}
    if len(leaks) > max(_MAX_LEAKS, len(scores) / 2):
        return
    others = [score for name, score in scores.items() if name not in leaks]
    best = max(others, default=0.0)
    for name, score in leaks.items():
        if 1 - best < _MIN_RATIO * (1 - score):
            continue
        warn(
            "possible_leak",
            f"Column '{name}' alone predicts '{target.name}' almost perfectly "
            f"({_MEASURE[target.task]} {score:.4f}; the best of the others "
            f"{best:.2f}). If it is known only afterwards, leave it out: "
            f"--ignore {name}",
            column=name,
            score=score,
        )


def single_column_scores(
    cells: Cells, columns: Sequence[Column], target: Target
) -> dict[str, float]:
    """Score of each feature alone, at most 1, on rows that did not teach it.

    AUC for two classes, the share of the errors of a guess that it avoids for more,
    R2 for numbers.
    """
    features = [c for c in columns if c.role == "feature" and c.type in _TYPES]
    goal = next(column for column in columns if column.name == target.name)
    sample = cells.sample([goal.name, *(column.name for column in features)])
    y = _target_values(_input(goal, sample, cells.where), target)
    known = ~np.isnan(y)
    if known.sum() < _MIN_ROWS or len(target.labels) > _MAX_CLASSES:
        return {}
    folds = np.random.default_rng(0).integers(0, 2, int(known.sum()))
    return {
        column.name: _score(
            _input(column, sample, cells.where), y, known, folds, target
        )
        for column in features
    }


def _input(column: Column, sample: pa.Table, where: str) -> np.ndarray | pa.Array:
    array = sample.column(column.name).combine_chunks()
    read = column
    if column.type == "numeric" and column.dtype == "string":
        read = column.model_copy(update={"dtype": "float32"})
    return COLUMNS.load(column.type).to_input(read, array, where=where, first_row=0)


def _target_values(values: np.ndarray | pa.Array, target: Target) -> np.ndarray:
    """Numbers, or the position of each label, as float64; NaN for missing."""
    if isinstance(values, np.ndarray):
        return values.astype("float64")
    positions = pc.index_in(values, pa.array(target.labels)).cast(pa.float64())
    return positions.to_numpy(zero_copy_only=False)


def _score(
    values: np.ndarray | pa.Array,
    y: np.ndarray,
    known: np.ndarray,
    folds: np.ndarray,
    target: Target,
) -> float:
    codes = _codes(values)[known]
    y = y[known]
    if target.task == "multiclass":
        return _avoided_errors(codes, y.astype("int64"), folds)
    fitted = _out_of_fold(codes, y, folds)
    if target.task == "binary":
        return _auc(fitted, y)
    numbers = values[known] if isinstance(values, np.ndarray) else None
    return max(_r2(fitted, y), _line_r2(numbers, y))


def _codes(values: np.ndarray | pa.Array) -> np.ndarray:
    """A small integer for each value, or for each bin of numbers; int64."""
    if isinstance(values, pa.Array):
        return values.dictionary_encode().indices.to_numpy().astype("int64")
    present = values[~np.isnan(values)]
    if not len(present):
        return np.zeros(len(values), "int64")
    edges = np.unique(np.quantile(present, np.linspace(0, 1, _MAX_BINS)))
    # Both sides: a frequent value that is an edge gets a code of its own.
    left = np.searchsorted(edges, values, side="left")
    right = np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), 2 * len(edges) + 1, left + right)


def _out_of_fold(codes: np.ndarray, y: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Mean of `y` per code, learnt on the other half of the rows; `(rows,)`.

    A code counts one row of the overall mean, so that rare ones say little.
    """
    size = int(codes.max(initial=0)) + 1
    fitted = np.empty(len(y))
    for fold in (0, 1):
        here, there = folds == fold, folds != fold
        counts = np.bincount(codes[there], minlength=size)
        sums = np.bincount(codes[there], weights=y[there], minlength=size)
        prior = y[there].mean() if there.any() else 0.0
        fitted[here] = ((sums + prior) / (counts + 1))[codes[here]]
    return fitted


def _avoided_errors(codes: np.ndarray, y: np.ndarray, folds: np.ndarray) -> float:
    """Share of the errors of always guessing the largest class that are avoided by
    guessing the most frequent class of a code, learnt on the other half."""
    shape = int(codes.max(initial=0)) + 1, int(y.max(initial=0)) + 1
    is_right = np.empty(len(y), bool)
    for fold in (0, 1):
        here, there = folds == fold, folds != fold
        cells = codes[there] * shape[1] + y[there]
        counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
        prior = counts.sum(axis=0) / max(1, there.sum())
        guess = (counts + prior).argmax(axis=1)
        is_right[here] = guess[codes[here]] == y[here]
    chance = np.bincount(y).max() / len(y)
    return float((is_right.mean() - chance) / max(1e-9, 1 - chance))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _auc(scores: np.ndarray, y: np.ndarray) -> float:
    num_positive = y.sum()
    num_negative = len(y) - num_positive
    if not num_positive or not num_negative:
        return 0.0
    above = _ranks(scores)[y == 1].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def _r2(fitted: np.ndarray, y: np.ndarray) -> float:
    spread = ((y - y.mean()) ** 2).sum()
    return float(1 - ((y - fitted) ** 2).sum() / spread) if spread else 0.0


def _line_r2(values: np.ndarray | None, y: np.ndarray) -> float:
    """Of a straight line, in the values or in their ranks; finer than any bins."""
    if values is None:
        return 0.0
    fine = ~np.isnan(values)
    if fine.mean() < _MIN_SCORE:
        return 0.0
    x, y = values[fine].astype("float64"), y[fine]
    return max(_correlation(x, y) ** 2, _correlation(_ranks(x), _ranks(y)) ** 2)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale else 0.0
