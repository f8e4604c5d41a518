"""A linear model."""

from typing import Any

from kerastrain.features import Features

__all__ = ["linear"]


def linear(features: Features, *, clip: float = 3.0) -> Any:
    """Linear in the scaled numbers and additive over categories.

    With the head that follows, this is logistic, softmax or linear regression.

    Args:
        clip: where scaled numbers are clipped smoothly, in interquartile ranges.
    """
    return features.flat(clip=clip, embedding_dim=features.num_outputs)
