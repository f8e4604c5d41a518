"""The mean of what several models say, as a layer."""

from collections.abc import Sequence
from typing import Any

import keras

from kerastrain.layers import Exact, register

__all__ = ["WeightedMean"]


@register
class WeightedMean(Exact):
    """Sum of tensors of one shape, each times its weight. Float32 of that shape.

    Args:
        weights: one for each tensor.
    """

    def __init__(self, weights: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.weights_of = [float(weight) for weight in weights]

    def call(self, tensors):
        parts = [t * w for t, w in zip(tensors, self.weights_of, strict=True)]
        return sum(parts[1:], start=parts[0])

    def compute_output_spec(self, tensors):
        return keras.KerasTensor(tensors[0].shape, "float32")

    def get_config(self):
        return super().get_config() | {"weights": self.weights_of}
