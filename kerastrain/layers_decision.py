"""Keras layers behind the probabilities or the value: calibrate, decide, bound."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerastrain.layers import DecideLabel, Exact, register

__all__ = [
    "CurveProbabilities",
    "DecideByCosts",
    "DecideByThreshold",
    "IntervalWidth",
    "ScaleProbabilities",
    "ShareProbabilities",
]

LEAST = 1e-30  # probability that counts, so that there is a logarithm

Knots = Sequence[float]


def _floats(values: Any) -> np.ndarray:
    return np.asarray(values, "float32")


def interpolated(values: Any, x: Knots, y: Knots) -> Any:
    """Straight lines between knots, level outside of them; any shape.

    Args:
        x: of the knots, rising; one at least.
        y: of the knots.

    Reference: `Piecewise`, of which this is the same in `keras.ops`.
    """
    if len(x) == 1:
        return ops.full_like(values, y[0])
    starts, spans, rises = _floats(x[:-1]), _floats(np.diff(x)), _floats(np.diff(y))
    shares = ops.clip((ops.expand_dims(values, -1) - starts) / spans, 0.0, 1.0)
    return y[0] + ops.sum(shares * rises, axis=-1)


@register
class ScaleProbabilities(Exact):
    """`softmax(scale * log p + shift)`. `(batch, classes)` -> `(batch, classes)`.

    Args:
        scale: one over the temperature.
        shift: a value for each class.

    Reference: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """

    def __init__(self, scale: float, shift: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = float(scale)
        self.shift = [float(value) for value in shift]

    @property
    def steepness(self) -> float:
        """How much larger a difference between two inputs may become."""
        return self.scale

    def call(self, probabilities: Any) -> Any:
        logits = ops.log(ops.maximum(probabilities, LEAST))
        return ops.softmax(logits * self.scale + _floats(self.shift), axis=-1)

    def compute_output_spec(self, probabilities: Any) -> Any:
        return keras.KerasTensor(probabilities.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"scale": self.scale, "shift": self.shift}


@register
class ShareProbabilities(Exact):
    """A part of all probabilities dealt to the classes alike.

    `(batch, classes)` -> `(batch, classes)`.

    Args:
        share: of the whole, 0 to 1.
    """

    def __init__(self, share: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.share = float(share)

    def call(self, probabilities: Any) -> Any:
        even = self.share / probabilities.shape[-1]
        return probabilities * (1 - self.share) + even

    def compute_output_spec(self, probabilities: Any) -> Any:
        return keras.KerasTensor(probabilities.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"share": self.share}


@register
class CurveProbabilities(Exact):
    """Each probability through a curve of its class, then a sum of 1 again.

    Args:
        x: of the knots of each curve, rising. One curve is that of the second of two
            classes; the first gets the rest.
        y: of the knots, above 0.

    Shapes: `(batch, classes)` -> `(batch, classes)`.
    Reference: Zadrozny and Elkan 2002, sections 3 and 4.
    """

    def __init__(self, x: Sequence[Knots], y: Sequence[Knots], **kwargs: Any):
        super().__init__(**kwargs)
        self.x = [[float(value) for value in knots] for knots in x]
        self.y = [[float(value) for value in knots] for knots in y]

    @property
    def steepness(self) -> float:
        """How much larger a difference between two inputs may become."""
        return max(_steepness(*knots) for knots in zip(self.x, self.y, strict=True))

    def call(self, probabilities: Any) -> Any:
        if len(self.x) == 1:
            positive = interpolated(probabilities[:, 1], self.x[0], self.y[0])
            return ops.stack([1 - positive, positive], axis=-1)
        curves = enumerate(zip(self.x, self.y, strict=True))
        shares = [interpolated(probabilities[:, k], *knots) for k, knots in curves]
        together = ops.stack(shares, axis=-1)
        return together / ops.sum(together, axis=-1, keepdims=True)

    def compute_output_spec(self, probabilities: Any) -> Any:
        return keras.KerasTensor(probabilities.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"x": self.x, "y": self.y}


def _steepness(x: Knots, y: Knots) -> float:
    return float(np.abs(np.diff(y) / np.diff(x)).max(initial=0.0))


@register
class DecideByThreshold(DecideLabel):
    """The second label from a probability on: `(batch, 2)` -> strings `(batch,)`.

    Args:
        labels: two.
        threshold: the least probability of the second label that gives it.
    """

    def __init__(self, labels: Sequence[str], threshold: float, **kwargs: Any):
        super().__init__(labels, **kwargs)
        self.threshold = float(threshold)

    def call(self, probabilities: Any) -> Any:
        is_positive = probabilities[:, 1] >= np.float32(self.threshold)
        return tf.gather(tf.constant(self.labels), tf.cast(is_positive, "int32"))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"threshold": self.threshold}


@register
class DecideByCosts(DecideLabel):
    """Label of the least expected cost: `(batch, classes)` -> strings `(batch,)`.

    Args:
        labels: one for each class.
        costs: of each label, by true class: `costs[true][predicted]`.
    """

    def __init__(
        self, labels: Sequence[str], costs: Sequence[Sequence[float]], **kwargs: Any
    ):
        super().__init__(labels, **kwargs)
        self.costs = [[float(cost) for cost in row] for row in costs]

    def call(self, probabilities: Any) -> Any:
        expected = ops.matmul(probabilities, _floats(self.costs))
        return tf.gather(tf.constant(self.labels), tf.argmin(expected, axis=-1))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"costs": self.costs}


@register
class IntervalWidth(Exact):
    """Half the width of a prediction interval by predicted value: any shape.

    Args:
        x: predicted values, rising; one at least.
        y: half the width there.
    """

    def __init__(self, x: Knots, y: Knots, **kwargs: Any):
        super().__init__(**kwargs)
        self.x = [float(value) for value in x]
        self.y = [float(value) for value in y]

    @property
    def steepness(self) -> float:
        """How much larger a difference between two values may become at an end."""
        return 1.0 + _steepness(self.x, self.y)

    def call(self, values: Any) -> Any:
        return interpolated(values, self.x, self.y)

    def compute_output_spec(self, values: Any) -> Any:
        return keras.KerasTensor(values.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"x": self.x, "y": self.y}
