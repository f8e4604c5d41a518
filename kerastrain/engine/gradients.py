"""Clipping of the true gradient: of all rows of a step, summed over devices."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from kerastrain.config import OptimizerConfig

__all__ = ["Clipping"]


@dataclass(frozen=True)
class Clipping:
    """What a gradient is held to, in this order; None is no limit.

    Args:
        value: largest size of an entry.
        each_norm: largest norm of the gradient of each weight.
        norm: largest norm of all of it together (Pascanu et al. 2013).
    """

    value: float | None = None
    each_norm: float | None = None
    norm: float | None = None

    @classmethod
    def of(cls, config: OptimizerConfig) -> "Clipping":
        return cls(config.clip_value, config.clip_each_norm, config.clip_norm)

    def __call__(
        self, gradients: Sequence[tf.Tensor], scale: tf.Tensor
    ) -> list[tf.Tensor]:
        """The gradients held to the limits.

        Args:
            scale: of the loss that they are the gradients of.
        """
        clipped = list(gradients)
        if self.value is not None:
            limit = self.value * scale
            clipped = [tf.clip_by_value(g, -limit, limit) for g in clipped]
        if self.each_norm is not None:
            limit = self.each_norm * scale
            clipped = [tf.clip_by_norm(g, limit) for g in clipped]
        if self.norm is not None:
            clipped = tf.clip_by_global_norm(clipped, self.norm * scale)[0]
        return clipped
