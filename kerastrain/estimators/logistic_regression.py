"""Logistic regression of scikit-learn."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import LogisticRegression as Library

from kerastrain.estimator import Fitted
from kerastrain.sklearn_base import Judge, decision_of
from kerastrain.sklearn_linear import LinearEstimator

__all__ = ["LogisticRegression"]

# Under a limit of time the solver is asked for so many steps at once.
_STEPS = 25
# Up to here a step of Newton costs less than the many others that it saves.
_NEWTON_COLUMNS = 500


class LogisticRegression(LinearEstimator):
    """Logistic regression of scikit-learn, its strength chosen on validation rows.

    Args:
        strengths: C, one over the penalty of squared weights; the best is taken.
        max_steps: of the solver, for each strength.
        squash: how tails of numbers are drawn in: by a signed logarithm, or clipped
            smoothly at three interquartile ranges.
        bins: straight pieces of the curve that each number has beside its weight;
            fewer for very many rows, 0 is none.
        pairs: of numbers that have a surface together, those that interact most.
    """

    tasks = ("binary", "multiclass")

    def __init__(
        self,
        *,
        strengths: Sequence[float] = (0.001, 0.01, 0.1, 1.0),
        max_steps: int = 300,
        squash: Literal["log", "clip"] = "log",
        bins: int = 32,
        pairs: int = 0,
    ):
        self.strengths = sorted(strengths)
        self.max_steps = max_steps
        self.squash = squash
        self.bins = bins
        self.pairs = pairs

    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        candidates = self._candidates(x, y, weight, judge)
        self.model_, is_cut_short = judge.best(candidates, decision_of)
        steps = int(np.max(self.model_.n_iter_))
        found = {"strength": self.model_.C, "steps": steps}
        return Fitted(0, is_cut_short, found)

    def _candidates(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Iterator[Any]:
        # A warm start: from where the stronger penalty ended.
        outputs = 1 if judge.num_found == 2 else judge.num_found
        is_small = isinstance(x, np.ndarray) and x.shape[1] * outputs <= _NEWTON_COLUMNS
        model = Library(
            solver="newton-cholesky" if is_small else "lbfgs",
            warm_start=True,
            random_state=self.setting_.seed,
        )
        for model.C in self.strengths:
            step = self.max_steps if judge.deadline is None else _STEPS
            for _ in range(0, self.max_steps, step):
                model.max_iter = step
                model.fit(x, y, weight)
                if np.max(model.n_iter_) < step or judge.seconds <= 0:
                    break
            yield model
