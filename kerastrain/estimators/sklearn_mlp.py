"""The neural network of scikit-learn."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import scipy.special
from sklearn.neural_network import MLPClassifier, MLPRegressor

from kerastrain.estimator import Fitted
from kerastrain.features import Features
from kerastrain.kernels import frozen_dense
from kerastrain.sklearn_base import Judge, SklearnEstimator

__all__ = ["SklearnMlp"]

_ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "logistic": scipy.special.expit,
}


class SklearnMlp(SklearnEstimator):
    """Neural network of scikit-learn, stopped when validation rows say so.

    Args:
        widths: units of each hidden layer.
        activation: of the hidden layers.
        penalty: of squared weights.
        learning_rate: of Adam.
        batch_size: rows of a step.
        max_rounds: passes over the train rows.
        patience: passes without a better validation loss until it stops.
        squash: how tails of numbers are drawn in: by a signed logarithm, or clipped
            smoothly at three interquartile ranges.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (100,),
        activation: Literal["relu", "tanh", "logistic"] = "relu",
        penalty: float = 1e-4,
        learning_rate: float = 1e-3,
        batch_size: int = 200,
        max_rounds: int = 200,
        patience: int = 10,
        squash: Literal["log", "clip"] = "log",
    ):
        self.widths = tuple(widths)
        self.activation = activation
        self.penalty = penalty
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_rounds = max_rounds
        self.patience = patience
        self.squash = squash

    def fit(
        self, x: Any, y: np.ndarray, weight: np.ndarray | None, judge: Judge
    ) -> Fitted:
        kind = MLPClassifier if judge.num_found else MLPRegressor
        model = kind(
            hidden_layer_sizes=self.widths,
            activation=self.activation,
            alpha=self.penalty,
            learning_rate_init=self.learning_rate,
            batch_size=min(self.batch_size, x.shape[0]),
            random_state=self.setting_.seed,
        )
        more = {"classes": np.arange(judge.num_found)} if judge.num_found else {}
        least, kept = np.inf, 0
        for number in range(1, self.max_rounds + 1):
            model.partial_fit(x, y, sample_weight=weight, **more)
            error = judge.error(self._decide(model, judge.x))
            if error < least or not kept:
                self.model_ = copy.deepcopy(model)
                least, kept = error, number
            if number - kept >= self.patience:
                break
            if judge.seconds <= 0:
                return Fitted(kept, is_cut_short=True)
        return Fitted(kept)

    def decide(self, x: Any) -> np.ndarray:
        return self._decide(self.model_, x)

    def _decide(self, model: Any, x: Any) -> np.ndarray:
        """What the last layer gives; the library tells only what it makes of it."""
        active = _ACTIVATIONS[self.activation]
        for kernel, bias in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
            x = active(x @ kernel + bias)
        return x @ model.coefs_[-1] + model.intercepts_[-1]

    def decision_layers(self, features: Features) -> Any:
        names = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid"}
        kernels, biases = self.model_.coefs_, self.model_.intercepts_
        x = self.inputs_.linear_layers(features, kernels[0], biases[0])
        for kernel, bias in zip(kernels[1:], biases[1:], strict=True):
            x = keras.layers.Activation(names[self.activation], dtype="float32")(x)
            x = frozen_dense(x, kernel, bias)
        return x
