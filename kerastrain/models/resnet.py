"""ResNet for tables."""

from typing import Any, Literal

import keras

from kerastrain.features import Features
from kerastrain.nets.inputs import flat_columns

__all__ = ["recipe", "resnet"]


def resnet(
    features: Features,
    *,
    blocks: int = 2,
    width: int = 192,
    dropout: float = 0.15,
    embedding_dim: int = 8,
    scaling: Literal["normal", "log", "clip"] = "normal",
    frequencies: int = 0,
    frequency_scale: float = 0.01,
) -> Any:
    """ResNet: blocks of two layers, each added to what it was given.

    Reference: Gorishniy et al. 2021, "Revisiting deep learning models for tabular
    data", arXiv 2106.11959, section 3.2.

    Args:
        blocks: how many.
        width: units of what is passed from block to block.
        dropout: share of the units inside a block, twice `width`, that is dropped.
        embedding_dim: length of the vector of a category.
        scaling: of numbers: normal by their rank; or robustly, with the tails drawn in
            by a signed logarithm or clipped smoothly at three interquartile ranges.
        frequencies: waves of which each number becomes a vector (PLR, Gorishniy et al.
            2022; 48 there); 0 leaves numbers as they are.
        frequency_scale: standard deviation of their initial frequencies.
    """
    columns = flat_columns(
        features,
        scaling=scaling,
        embedding_dim=embedding_dim,
        frequencies=frequencies,
        frequency_scale=frequency_scale,
    )
    x = keras.layers.Dense(width)(columns)
    for _ in range(blocks):
        y = _normalize(x)
        y = keras.layers.Dense(2 * width, activation="relu")(y)
        y = keras.layers.Dense(width)(keras.layers.Dropout(dropout)(y))
        x = keras.layers.Add()([x, y])
    return keras.layers.Activation("relu")(_normalize(x))


def _normalize(x: Any) -> Any:
    # As PyTorch, which forgets 10 % a step; Keras forgets 1 %, and its averages are
    # still those of the first epochs when a short training ends.
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=True
    )(x)


def recipe(task: str, num_rows: int) -> dict[str, Any]:
    """How it is trained unless told otherwise."""
    return {
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-5},
        "fit": {"patience": 16},
    }
