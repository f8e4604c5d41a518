"""Nearest neighbours, found by scikit-learn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from keras import ops
from sklearn.metrics.pairwise import euclidean_distances

from kerastrain.arrays import pieces
from kerastrain.estimator import Fitted
from kerastrain.features import Features
from kerastrain.kernels import Nearest, filled, neighbor_weights
from kerastrain.sklearn_base import Judge, SklearnEstimator

__all__ = ["NearestNeighbors"]

# Rows whose distances to all stored rows are in memory at once.
_CHUNK_ROWS = 512
_JUDGED_ROWS = 2_000
# Of a class without a vote: where the prior has none either.
_LEAST_SHARE = 1e-12


class NearestNeighbors(SklearnEstimator):
    """Nearest neighbours by the distances of scikit-learn; k by validation rows.

    All rows as near as the k-th one vote, where scikit-learn takes any of them. The
    shares of the classes are mixed with those of all train rows, which count as one
    neighbour.

    Args:
        neighbors: k; the best on validation rows is taken.
        weights: of a neighbour: `uniform`, or by `distance`.
        max_rows: train rows that are kept, drawn at random from more; 0 is all. They
            are part of the model.
        max_categories: categories of a column that are told apart, the most frequent.
    """

    def __init__(
        self,
        *,
        neighbors: Sequence[int] = (5, 15, 45),
        weights: Literal["uniform", "distance"] = "distance",
        max_rows: int = 20_000,
        max_categories: int = 30,
    ):
        self.neighbors = sorted(neighbors)
        self.weights = weights
        self.max_rows = max_rows
        self.max_categories = max_categories

    def ready(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return self.inputs_.dense(numbers, codes)

    def fit(
        self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        weight = np.ones(len(y), "float32") if weight is None else weight
        values, counts = y[:, None], (weight / weight.mean())[:, None]
        prior = np.zeros(2)
        if judge.num_found:
            values = np.eye(judge.num_found)[y]
            shares = (values * counts).mean(axis=0)
            prior = np.append(shares, 1.0)
        self.stored_ = _Stored(x, counts, values * counts, prior, self.weights)
        judge.x, judge.y = judge.x[:_JUDGED_ROWS], judge.y[:_JUDGED_ROWS]
        judge.weight = None if judge.weight is None else judge.weight[:_JUDGED_ROWS]
        self.k_, is_cut_short = judge.best(self._candidates(len(y)), self._decide)
        return Fitted(0, is_cut_short, {"neighbors": self.k_})

    def _candidates(self, num_rows: int) -> Iterator[int]:
        yield from dict.fromkeys(min(k, num_rows) for k in self.neighbors)

    def decide(self, x: np.ndarray) -> np.ndarray:
        return self._decide(self.k_, x)

    def _decide(self, k: int, x: np.ndarray) -> np.ndarray:
        found = [self.stored_.mean(x[p], k) for p in pieces(len(x), _CHUNK_ROWS)]
        mean = np.concatenate(found)
        return mean if not len(self.found_) else _logits(mean, np)

    def decision_layers(self, features: Features) -> Any:
        stored = self.stored_
        units = stored.values.shape[1]
        layer = Nearest(len(stored.rows), units, self.k_, self.weights)
        weights = [stored.rows, stored.counts, stored.values, stored.prior]
        mean = filled(layer, self.inputs_.dense_layers(features), weights)
        return mean if not len(self.found_) else _logits(mean, ops)


def _logits(shares: Any, xp: Any) -> Any:
    logs = xp.log(xp.maximum(shares, _LEAST_SHARE))
    return logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs


@dataclass(frozen=True)
class _Stored:
    """Train rows; the arguments are the weights of `Nearest`."""

    rows: np.ndarray
    counts: np.ndarray
    values: np.ndarray
    prior: np.ndarray
    weighting: str

    def mean(self, x: np.ndarray, k: int) -> np.ndarray:
        """What `Nearest` gives, by distances of the library."""
        squares = euclidean_distances(x, self.rows, squared=True)
        kth = np.partition(squares, k - 1, axis=1)[:, k - 1 : k]
        length = np.square(x).sum(axis=1, keepdims=True)
        near = neighbor_weights(squares, kth, length, self.weighting == "distance", np)
        total = near @ self.counts + self.prior[-1]
        return (near @ self.values + self.prior[:-1]) / total
