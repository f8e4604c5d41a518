"""Ridge regression of scikit-learn, of classes too."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import Ridge as Library

from kerastrain.estimator import Fitted
from kerastrain.features import Features
from kerastrain.sklearn_base import Judge, SklearnEstimator, decision_of

__all__ = ["Ridge"]


class Ridge(SklearnEstimator):
    """Ridge regression of scikit-learn, its strength chosen on validation rows.

    Classes are learnt as the numbers 1 and -1, one regression for each; probabilities
    come of a scale and shifts fitted on validation rows.

    Args:
        penalties: alpha, of squared weights; the best is taken.
        squash: how tails of numbers are drawn in: by a signed logarithm, or clipped
            smoothly at three interquartile ranges.
    """

    is_scaled = True

    def __init__(
        self,
        *,
        penalties: Sequence[float] = (1_000.0, 100.0, 10.0, 1.0, 0.1),
        squash: Literal["log", "clip"] = "log",
    ):
        self.penalties = sorted(penalties, reverse=True)
        self.squash = squash

    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        goal = y[:, None]
        if judge.num_found:
            goal = np.where(y[:, None] == np.arange(judge.num_found), 1.0, -1.0)
            goal = goal[:, 1:] if judge.num_found == 2 else goal
        candidates = self._candidates(x, goal.astype("float32"), weight)
        self.model_, is_cut_short = judge.best(candidates, decision_of)
        return Fitted(0, is_cut_short, {"penalty": self.model_.alpha})

    def _candidates(
        self, x: Any, goal: np.ndarray, weight: np.ndarray | None
    ) -> Iterator[Any]:
        model = Library(random_state=self.setting_.seed)
        for model.alpha in self.penalties:
            yield model.fit(x, goal, weight)

    def decide(self, x: Any) -> np.ndarray:
        return decision_of(self.model_, x)

    def decision_layers(self, features: Features) -> Any:
        return self.linear_layers(features, self.model_)
