"""Linear models over curves of the numbers, and surfaces over pairs of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

from kerastrain.estimator import Examples
from kerastrain.features import Features
from kerastrain.sklearn_base import SklearnEstimator, decision_of
from kerastrain.sklearn_splines import Splines, strongest_pairs

__all__ = ["LinearEstimator", "least_squares"]

# Numbers of a dense matrix, at 4 bytes; of more rows there are fewer bins.
_MOST_CELLS = 100_000_000
_LEAST_BINS = 4
# Up to here one decomposition serves all penalties; 2,000 columns take 3 s.
_MOST_COLUMNS = 2_000
_PILOT_PENALTY = 10.0


class LinearEstimator(SklearnEstimator):
    """One that is linear in `ready`; see `sklearn_splines`.

    Attributes:
        bins: straight pieces of a number's curve, at most; 0 is a straight line.
        pairs: of numbers that have a surface, at most.
        model_: of the library.
    """

    bins: int
    pairs: int
    model_: Any

    def shape(self, train: Examples) -> None:
        num_columns = train.numbers.shape[1]
        room = _MOST_CELLS // max(1, len(train))
        num_bins = min(self.bins, room // max(1, num_columns))
        if num_bins < _LEAST_BINS or not num_columns:
            return
        quantiles = self.setting_.statistics.quantiles
        scaled = np.asarray(self.inputs_.scaled(quantiles.T.copy())).T
        splines = Splines.of(scaled, num_bins)
        if splines.width:  # there is none where all numbers are 0 or 1
            self.inputs_ = replace(self.inputs_, splines=splines)
        most = min(self.pairs, room // splines.pair_width)
        if most and num_columns > 1:
            splines = replace(splines, pairs=self._strongest(train, splines, most))
            self.inputs_ = replace(self.inputs_, splines=splines)

    def _strongest(
        self, train: Examples, splines: Splines, most: int
    ) -> tuple[tuple[int, int], ...]:
        x = self.ready(train.numbers, train.codes)
        goal = self.goal(train.targets)
        (model,) = least_squares(x, goal, train.weight, [_PILOT_PENALTY])
        residual = goal - decision_of(model, x)
        if train.weight is not None:
            residual *= train.weight[:, None]
        cells = splines.cells(np.asarray(self.inputs_.scaled(train.numbers)))
        return strongest_pairs(cells, residual, most)

    def goal(self, y: np.ndarray) -> np.ndarray:
        """Values, or of classes 1 and -1 for each: float32 `(rows, outputs)`."""
        num_found = len(self.found_)
        if not num_found:
            return y[:, None].astype("float32")
        goal = np.where(y[:, None] == np.arange(num_found), 1.0, -1.0)
        return (goal[:, 1:] if num_found == 2 else goal).astype("float32")

    def ready(self, numbers: np.ndarray, codes: np.ndarray) -> Any:
        x = self.inputs_.sparse(numbers, codes)
        is_small = x.shape[1] <= _MOST_COLUMNS and np.prod(x.shape) <= 2 * _MOST_CELLS
        return x.toarray() if is_small and hasattr(x, "toarray") else x

    def decide(self, x: Any) -> np.ndarray:
        return decision_of(self.model_, x)

    def decision_layers(self, features: Features) -> Any:
        return self.linear_layers(features, self.model_)


def least_squares(
    x: Any, goal: np.ndarray, weight: np.ndarray | None, penalties: Sequence[float]
) -> Any:
    """Ridge regressions of the library, one after the other.

    Args:
        x: a matrix or a sparse one, `(rows, columns)`.
        goal: float32 `(rows, outputs)`.
        penalties: of squared weights.
    """
    if not isinstance(x, np.ndarray) or x.shape[1] > _MOST_COLUMNS:
        for penalty in penalties:
            yield Ridge(alpha=penalty).fit(x, goal, weight)
        return
    x_mean, y_mean = _mean(x, weight), _mean(goal, weight)
    share = 1.0 if weight is None else np.sqrt(weight)[:, None].astype("float32")
    x, goal = (x - x_mean) * share, (goal - y_mean) * share
    size, vectors = np.linalg.eigh((x.T @ x).astype("float64"))
    along = vectors.T @ (x.T @ goal).astype("float64")
    for penalty in penalties:
        model = Ridge(alpha=penalty)
        kernel = vectors @ (along / (np.maximum(size, 0)[:, None] + penalty))
        model.coef_ = kernel.T
        model.intercept_ = y_mean - x_mean @ kernel
        yield model


def _mean(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Of each column, float32, without a product as large as the matrix."""
    if weight is None:
        return values.mean(axis=0, dtype="float64").astype("float32")
    total = np.einsum("n,nk->k", weight, values, dtype="float64")
    return (total / weight.sum(dtype="float64")).astype("float32")
