"""Support vector machines of scikit-learn with a Gaussian kernel."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.svm import SVC, SVR

from kerastrain.estimator import Fitted
from kerastrain.events import note
from kerastrain.features import Features
from kerastrain.kernels import RbfKernel, filled
from kerastrain.sklearn_base import (
    Judge,
    SklearnEstimator,
    decision_of,
    each_first,
)

__all__ = ["Svm"]

_PILOT_ROWS = 500
_CACHE_MB = 500


class Svm(SklearnEstimator):
    """Support vector machine of scikit-learn with a Gaussian kernel (libsvm).

    Decisions of several classes are those of all pairs, added up for each class.
    Probabilities come of a scale and shifts fitted on validation rows, not of the
    library's own cross-validation, which takes five times as long.

    Args:
        strengths: C, one over the penalty; the best on validation rows is taken.
        gamma: of the kernel, in units of one over the columns times their variance.
        max_rows: train rows that are used, drawn at random from more; 0 is all. Time
            grows with their square.
        max_categories: categories of a column that are told apart, the most frequent.
    """

    is_scaled = True

    def __init__(
        self,
        *,
        strengths: Sequence[float] = (0.3, 1.0, 10.0),
        gamma: float = 1.0,
        max_rows: int = 10_000,
        max_categories: int = 30,
    ):
        self.strengths = sorted(strengths)
        self.gamma = gamma
        self.max_rows = max_rows
        self.max_categories = max_categories

    def ready(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return self.inputs_.dense(numbers, codes).astype("float64")

    def fit(
        self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        variance = float(x.var())
        gamma = self.gamma / (x.shape[1] * variance if variance > 0 else 1.0)
        self.gamma_ = gamma
        chosen = self._affordable(x, y, weight, judge)
        y_, weight_ = y[chosen], None if weight is None else weight[chosen]
        candidates = self._candidates(x[chosen], y_, weight_, judge)
        self.model_, is_cut_short = judge.best(candidates, _decide)
        details = {"strength": self.model_.C, "support": len(self.model_.support_)}
        return Fitted(0, is_cut_short, details)

    def _machine(self, strength: float, judge: Judge) -> Any:
        options = {"C": strength, "gamma": self.gamma_, "cache_size": _CACHE_MB}
        if judge.num_found:
            return SVC(decision_function_shape="ovo", **options)
        return SVR(epsilon=0.05, **options)

    def _affordable(
        self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> np.ndarray:
        """Rows that can be learnt from in the time that is left, of those there are."""
        everything = np.arange(len(y))
        if judge.deadline is None or len(y) <= _PILOT_ROWS:
            return everything
        order = _some_of_each(y, judge, self.setting_.seed)
        pilot = order[:_PILOT_ROWS]
        start = time.monotonic()
        model = self._machine(self.strengths[-1], judge)
        model.fit(x[pilot], y[pilot], None if weight is None else weight[pilot])
        spent = (time.monotonic() - start) * len(self.strengths)
        times = max(1.0, judge.seconds / 2 / max(spent, 1e-6)) ** 0.5
        num_rows = int(_PILOT_ROWS * times)
        if num_rows >= len(y):
            return everything
        note(
            "rows_sampled",
            f"Svm learns from {num_rows:,} of {len(y):,} rows, drawn at random, which "
            "is what the time allows; give it more time to change that.",
            model="Svm",
            num_rows=num_rows,
        )
        return order[:num_rows]

    def _candidates(
        self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Iterator[Any]:
        for strength in self.strengths:
            yield self._machine(strength, judge).fit(x, y, weight)

    def decide(self, x: np.ndarray) -> np.ndarray:
        return _decide(self.model_, x)

    def decision_layers(self, features: Features) -> Any:
        coefficients, bias = _machine_of(self.model_)
        rows = self.model_.support_vectors_
        layer = RbfKernel(len(rows), len(bias), self.gamma_)
        x = self.inputs_.dense_layers(features)
        return filled(layer, x, [rows, coefficients, bias])


def _some_of_each(y: np.ndarray, judge: Judge, seed: int) -> np.ndarray:
    """All rows in a random order, in which one of each class comes first."""
    order = np.random.default_rng(seed).permutation(len(y))
    return each_first(order, y) if judge.num_found else order


def _decide(model: Any, x: np.ndarray) -> np.ndarray:
    pairs = decision_of(model, x)
    return pairs if pairs.shape[1] == 1 else pairs @ _sums(len(model.classes_))


def _pairs(num_classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(num_classes) for j in range(i + 1, num_classes)]


def _sums(num_classes: int) -> np.ndarray:
    """Decisions of pairs to their sums for each class, `(pairs, classes)`."""
    sums = np.zeros((num_classes * (num_classes - 1) // 2, num_classes))
    for number, (i, j) in enumerate(_pairs(num_classes)):
        sums[number, i], sums[number, j] = 1, -1
    return sums / (num_classes - 1)


def _machine_of(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients `(support vectors, outputs)` and bias of `_decide`."""
    if isinstance(model, SVR) or len(model.classes_) == 2:
        return model.dual_coef_.T, model.intercept_
    num_classes = len(model.classes_)
    # libsvm lays the vectors of a class together; row j - 1 of the coefficients of
    # class i < j, and row i of those of class j, belong to the pair (i, j).
    ends = np.cumsum(model.n_support_)
    of = [slice(end - n, end) for end, n in zip(ends, model.n_support_, strict=True)]
    by_pair = np.zeros((len(model.support_), len(model.intercept_)))
    for number, (i, j) in enumerate(_pairs(num_classes)):
        by_pair[of[i], number] = model.dual_coef_[j - 1, of[i]]
        by_pair[of[j], number] = model.dual_coef_[i, of[j]]
    sums = _sums(num_classes)
    return by_pair @ sums, model.intercept_ @ sums
