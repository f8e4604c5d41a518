"""Numbers as vectors of sines and cosines of learnt frequencies."""

import math
from typing import Any

import keras
from keras import ops

from kerastrain.layers import Exact, register

__all__ = ["PeriodicEmbedding"]


@register
class PeriodicEmbedding(Exact):
    """PLR: each number to `cos` and `sin` of frequencies, then linear, then ReLU.

    `(batch, n)` without NaN -> `(batch, n, dim)`. In float32 always: 16 bits lose the
    phase of a high frequency.

    Args:
        dim: length of the vector of a number.
        num_frequencies: of each column.
        scale: standard deviation of the initial frequencies, the option that matters
            most; 0.01 to 10 are worth a trial.
        activation: `relu` is PLR, `linear` is PL.
        lite: one linear map for all columns instead of one for each.

    Reference: Gorishniy et al. 2022, "On embeddings for numerical features in tabular
    deep learning", section 3.3; sizes and initial values of `rtdl_num_embeddings`.
    """

    def __init__(
        self,
        dim: int = 24,
        *,
        num_frequencies: int = 48,
        scale: float = 0.01,
        activation: str = "relu",
        lite: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.num_frequencies = num_frequencies
        self.scale = float(scale)
        self.activation = activation
        self.lite = lite

    def build(self, input_shape):
        num_columns, width = input_shape[-1], 2 * self.num_frequencies
        # Keras redraws what lies beyond 2 deviations, the authors beyond 3.
        self.frequencies = self.add_weight(
            shape=(num_columns, self.num_frequencies),
            initializer=keras.initializers.TruncatedNormal(stddev=self.scale),
            name="frequencies",
        )
        limit = 1 / math.sqrt(width)
        uniform = keras.initializers.RandomUniform(-limit, limit)
        own = () if self.lite else (num_columns,)
        self.kernel = self.add_weight(
            shape=(*own, width, self.dim), initializer=uniform, name="kernel"
        )
        self.bias = self.add_weight(
            shape=(*own, self.dim), initializer=uniform, name="bias"
        )
        # As the authors; see `engine.optimizer`.
        self.frequencies.decay_factor = self.bias.decay_factor = 0.0

    def call(self, numbers):
        phases = 2 * math.pi * self.frequencies * ops.expand_dims(numbers, -1)
        waves = ops.concatenate([ops.cos(phases), ops.sin(phases)], axis=-1)
        if self.lite:
            linear = ops.matmul(waves, self.kernel)
        else:  # a matrix product for each column
            by_column = ops.matmul(ops.transpose(waves, (1, 0, 2)), self.kernel)
            linear = ops.transpose(by_column, (1, 0, 2))
        return keras.activations.get(self.activation)(linear + self.bias)

    def compute_output_spec(self, numbers):
        return keras.KerasTensor((*numbers.shape, self.dim), "float32")

    def get_config(self):
        return super().get_config() | {
            "dim": self.dim,
            "num_frequencies": self.num_frequencies,
            "scale": self.scale,
            "activation": self.activation,
            "lite": self.lite,
        }
