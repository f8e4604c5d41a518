"""Ridge regression of scikit-learn, of classes too."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kerastrain.estimator import Fitted
from kerastrain.sklearn_base import Judge, decision_of
from kerastrain.sklearn_linear import LinearEstimator, least_squares

__all__ = ["Ridge"]


class Ridge(LinearEstimator):
    """Ridge regression of scikit-learn, its strength chosen on validation rows.

    Classes are learnt as the numbers 1 and -1, one regression for each; probabilities
    come of a scale and shifts fitted on validation rows.

    Args:
        penalties: alpha, of squared weights; the best is taken.
        squash: how tails of numbers are drawn in: by a signed logarithm, or clipped
            smoothly at three interquartile ranges.
        bins: straight pieces of the curve that each number has beside its weight;
            fewer for very many rows, 0 is none.
        pairs: of numbers that have a surface together, those that interact most.
    """

    is_scaled = True

    def __init__(
        self,
        *,
        penalties: Sequence[float] = (1_000.0, 100.0, 10.0, 1.0, 0.1),
        squash: Literal["log", "clip"] = "log",
        bins: int = 32,
        pairs: int = 20,
    ):
        self.penalties = sorted(penalties, reverse=True)
        self.squash = squash
        self.bins = bins
        self.pairs = pairs

    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        candidates = least_squares(x, self.goal(y), weight, self.penalties)
        self.model_, is_cut_short = judge.best(candidates, decision_of)
        return Fitted(0, is_cut_short, {"penalty": self.model_.alpha})
