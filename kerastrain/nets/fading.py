"""What fades over training: a curve, and dropout that follows it."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerastrain.layers import register

__all__ = ["FadingDropout", "flat_cos"]


def flat_cos(share: Any) -> Any:
    """1 in the first half of training, then half a cosine down to 0.

    Args:
        share: of training that is done, from 0 to 1.

    Reference: Holzmüller et al. 2024 (RealMLP), section 3.2.
    """
    late = ops.minimum(ops.maximum(2.0 * share - 1.0, 0.0), 1.0)
    return (1 + ops.cos(math.pi * late)) / 2


@register
class FadingDropout(keras.layers.Layer):
    """Dropout whose rate goes by the share of training that is done: `flat_cos`.

    Args:
        rate: of the first half of training.

    Attributes:
        progress: gives that share, from 0 to 1, as a tensor; set before training. None
            is 0 always. It reads a counter of the optimiser, so that the layer has no
            state of its own to be kept.

    Any shape. Reference: Holzmüller et al. 2024, section 3.2.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {rate}.")
        self.rate = rate
        self.progress: Callable[[], Any] | None = None
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        share = self.progress() if self.progress is not None else 0.0
        kept = 1 - self.rate * ops.cast(flat_cos(share), "float32")
        drawn = keras.random.uniform(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )
        return ops.where(drawn < kept, x / ops.cast(kept, x.dtype), 0)

    def get_config(self):
        return super().get_config() | {"rate": self.rate}
