"""A linear model."""

from typing import Any, Literal

from kerastrain.features import Features

__all__ = ["linear"]


def linear(features: Features, *, squash: Literal["log", "clip"] = "log") -> Any:
    """Linear in the scaled numbers and additive over categories.

    With the head that follows, this is logistic, softmax or linear regression.

    Args:
        squash: how tails are drawn in: by a signed logarithm, or clipped smoothly at
            three interquartile ranges.
    """
    return features.flat(squash=squash, embedding_dim=features.num_outputs)
