"""Linear support vector machines of scikit-learn."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.svm import LinearSVC, LinearSVR

from kerastrain.estimator import Fitted
from kerastrain.features import Features
from kerastrain.sklearn_base import Judge, SklearnEstimator, decision_of

__all__ = ["LinearSvm"]


class LinearSvm(SklearnEstimator):
    """Linear support vector machine of scikit-learn (liblinear).

    Probabilities come of a scale and shifts fitted on validation rows.

    Args:
        strengths: C, one over the penalty of squared weights; the best is taken.
        max_steps: of the solver, for each strength.
        max_rows: train rows that are used, drawn at random from more; 0 is all.
        squash: how tails of numbers are drawn in: by a signed logarithm, or clipped
            smoothly at three interquartile ranges.
    """

    is_scaled = True

    def __init__(
        self,
        *,
        strengths: Sequence[float] = (0.001, 0.01, 0.1, 1.0),
        max_steps: int = 1_000,
        max_rows: int = 200_000,
        squash: Literal["log", "clip"] = "log",
    ):
        self.strengths = sorted(strengths)
        self.max_steps = max_steps
        self.max_rows = max_rows
        self.squash = squash

    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        candidates = self._candidates(x, y, weight, judge)
        self.model_, is_cut_short = judge.best(candidates, decision_of)
        return Fitted(0, is_cut_short, {"strength": self.model_.C})

    def _candidates(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Iterator[Any]:
        kind = LinearSVC if judge.num_found else LinearSVR
        options: dict[str, Any] = {
            "max_iter": self.max_steps,
            "random_state": self.setting_.seed,
        }
        if not judge.num_found:
            # The smooth loss, in the primal: the other one takes minutes to converge.
            options |= {"loss": "squared_epsilon_insensitive", "dual": False}
        for strength in self.strengths:
            yield kind(C=strength, **options).fit(x, y, weight)

    def decide(self, x: Any) -> np.ndarray:
        return decision_of(self.model_, x)

    def decision_layers(self, features: Features) -> Any:
        return self.linear_layers(features, self.model_)
