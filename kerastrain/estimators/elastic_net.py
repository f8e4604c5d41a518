"""Linear models with both penalties, of absolute and of squared weights."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import ElasticNet as Regressor
from sklearn.linear_model import LogisticRegression

from kerastrain.estimator import Fitted
from kerastrain.features import Features
from kerastrain.sklearn_base import Judge, SklearnEstimator, decision_of

__all__ = ["ElasticNet"]

# Under a limit of time the solver is asked for so many steps at once.
_STEPS = 10


class ElasticNet(SklearnEstimator):
    """Elastic net of scikit-learn: linear, and columns that do not help are left out.

    Args:
        penalties: alpha, of weights and their squares, per row; the best is taken.
        absolute_share: of the penalty that goes to absolute weights, 0 to 1.
        max_steps: of the solver, for each penalty.
        squash: how tails of numbers are drawn in: by a signed logarithm, or clipped
            smoothly at three interquartile ranges.
    """

    def __init__(
        self,
        *,
        penalties: Sequence[float] = (0.01, 0.001, 0.0001),
        absolute_share: float = 0.5,
        max_steps: int = 100,
        squash: Literal["log", "clip"] = "log",
    ):
        self.penalties = sorted(penalties, reverse=True)
        self.absolute_share = absolute_share
        self.max_steps = max_steps
        self.squash = squash

    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        candidates = self._candidates(x, y, weight, judge)
        (self.model_, penalty), is_cut_short = judge.best(candidates, _decide)
        return Fitted(0, is_cut_short, {"penalty": penalty})

    def _candidates(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Iterator[Any]:
        # A warm start: from where the stronger penalty ended.
        options = {"l1_ratio": self.absolute_share, "random_state": self.setting_.seed}
        model: Any
        if judge.num_found:
            model = LogisticRegression(solver="saga", warm_start=True, **options)
        else:
            model = Regressor(warm_start=True, selection="random", **options)
        total = x.shape[0] if weight is None else float(weight.sum())
        for penalty in self.penalties:
            if judge.num_found:
                model.C = 1 / (penalty * total)
            else:
                model.alpha = penalty
            self._solve(model, x, y, weight, judge)
            yield model, penalty

    def _solve(
        self, model: Any, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> None:
        step = self.max_steps if judge.deadline is None else _STEPS
        for _ in range(0, self.max_steps, step):
            model.max_iter = step
            model.fit(x, y, sample_weight=weight)
            if np.max(model.n_iter_) < step or judge.seconds <= 0:
                return

    def decide(self, x: Any) -> np.ndarray:
        return decision_of(self.model_, x)

    def decision_layers(self, features: Features) -> Any:
        return self.linear_layers(features, self.model_)


def _decide(candidate: tuple[Any, float], x: Any) -> np.ndarray:
    return decision_of(candidate[0], x)
