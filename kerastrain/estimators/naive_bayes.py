"""Naive Bayes of scikit-learn."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from sklearn.naive_bayes import CategoricalNB, GaussianNB

from kerastrain.estimator import Fitted
from kerastrain.features import Features
from kerastrain.kernels import CodeWeights, GaussianLikelihood, filled
from kerastrain.sklearn_base import Judge, SklearnEstimator

__all__ = ["NaiveBayes"]


class NaiveBayes(SklearnEstimator):
    """Naive Bayes of scikit-learn: normal numbers, counted categories.

    What it gives is too sure where columns depend on each other; a scale and shifts
    fitted on validation rows put that right.

    Args:
        smoothings: share of the largest variance that is added to all; the best is
            taken.
        pseudo_count: rows of each category that are added to those of each class.
    """

    tasks = ("binary", "multiclass")
    is_scaled = True

    def __init__(
        self,
        *,
        smoothings: Sequence[float] = (0.001, 0.01, 0.1),
        pseudo_count: float = 1.0,
    ):
        self.smoothings = smoothings
        self.pseudo_count = pseudo_count

    def ready(self, numbers: np.ndarray, codes: np.ndarray) -> Any:
        return _Columns(self._numbers(numbers), self._codes(numbers, codes))

    def _numbers(self, numbers: np.ndarray) -> np.ndarray:
        if not numbers.shape[1]:
            return numbers
        return ops.convert_to_numpy(self.inputs_.scaled(numbers)).astype("float64")

    def _codes(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Codes, then whether a number is missing: 1 or 0."""
        return np.hstack([codes, np.isnan(numbers[:, self.inputs_.gaps])]).astype("int")

    @property
    def _sizes(self) -> list[int]:
        return [*self.setting_.vocabulary_sizes, *[2] * len(self.inputs_.gaps)]

    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        self.prior_ = np.log(np.bincount(y, weight, minlength=judge.num_found))
        self.prior_ -= np.logaddexp.reduce(self.prior_)
        self.counted_: Any = None
        if x.codes.shape[1]:
            library = CategoricalNB(alpha=self.pseudo_count, min_categories=self._sizes)
            self.counted_ = library.fit(x.codes, y, weight)
        candidates = self._candidates(x, y, weight)
        self.normal_, is_cut_short = judge.best(candidates, self._decide)
        return Fitted(0, is_cut_short)

    def _candidates(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None
    ) -> Iterator[Any]:
        if not x.numbers.shape[1]:
            yield None
            return
        for smoothing in self.smoothings:
            model = GaussianNB(var_smoothing=smoothing).fit(x.numbers, y, weight)
            # Of columns that never change no variance is the largest.
            model.var_ = np.maximum(model.var_, 1e-6)
            yield model

    def decide(self, x: Any) -> np.ndarray:
        return self._decide(self.normal_, x)

    def _decide(self, normal: Any, x: Any) -> np.ndarray:
        """Log of the joint density; each model has the prior in it."""
        joint = np.tile(self.prior_, (x.shape[0], 1))
        if normal is not None:
            joint += normal.predict_joint_log_proba(x.numbers) - self.prior_
        if self.counted_ is not None:
            joint += self.counted_.predict_joint_log_proba(x.codes) - self.prior_
        return joint[:, 1:] - joint[:, :1] if joint.shape[1] == 2 else joint

    def decision_layers(self, features: Features) -> Any:
        parts = []
        if self.normal_ is not None:
            parts.append(self._normal_layers(features))
        if self.counted_ is not None:
            parts.append(self._counted_layers(features))
        joint = (
            parts[0] if len(parts) == 1 else keras.layers.Add(dtype="float32")(parts)
        )
        joint = joint + self.prior_.astype("float32")
        return joint[:, 1:] - joint[:, :1] if joint.shape[1] == 2 else joint

    def _normal_layers(self, features: Features) -> Any:
        means, variances = self.normal_.theta_, self.normal_.var_
        constants = -0.5 * np.log(2 * np.pi * variances).sum(axis=1)
        layer = GaussianLikelihood(len(means))
        x = self.inputs_.scaled(features.numbers)
        return filled(layer, x, [means, 1 / variances, constants])

    def _counted_layers(self, features: Features) -> Any:
        codes = [] if features.codes is None else [features.codes]
        if len(self.inputs_.gaps):
            codes.append(ops.cast(self.inputs_.missing(features.numbers), "int32"))
        joined = codes[0] if len(codes) == 1 else ops.concatenate(codes, axis=-1)
        table = np.concatenate(self.counted_.feature_log_prob_, axis=1).T
        return filled(CodeWeights(self._sizes, table.shape[1]), joined, [table])


class _Columns:
    """Numbers and codes of the same rows."""

    def __init__(self, numbers: np.ndarray, codes: np.ndarray):
        self.numbers = numbers
        self.codes = codes
        self.shape = (len(numbers), numbers.shape[1] + codes.shape[1])
