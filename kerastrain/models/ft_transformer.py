"""FT-Transformer: columns as tokens."""

from typing import Any, Literal

import keras

from kerastrain.features import Features
from kerastrain.layers import CategoryEmbedding, MissingIndicator
from kerastrain.nets.inputs import scaled_numbers
from kerastrain.nets.tokens import ColumnTokens, NumberTokens, SelfAttention

__all__ = ["ft_transformer", "recipe"]


def ft_transformer(
    features: Features,
    *,
    blocks: int = 3,
    dim: int = 192,
    heads: int = 8,
    attention_dropout: float = 0.2,
    hidden_dropout: float = 0.1,
    residual_dropout: float = 0.0,
    scaling: Literal["normal", "log", "clip"] = "normal",
) -> Any:
    """FT-Transformer: each column a token, and the tokens attend to each other.

    Memory and time grow with the square of the number of columns: from a few hundred
    on, take another network.

    Reference: Gorishniy et al. 2021, "Revisiting deep learning models for tabular
    data", arXiv 2106.11959, section 3.3, with the defaults of its authors.

    Args:
        blocks: how many.
        dim: length of a token, a multiple of `heads`.
        heads: of the attention.
        attention_dropout: share of the attention that is dropped.
        hidden_dropout: share of the units inside the feed-forward part, 4/3 of `dim`,
            that is dropped.
        residual_dropout: share of what a block adds that is dropped.
        scaling: of numbers: normal by their rank; or robustly, with the tails drawn in
            by a signed logarithm or clipped smoothly at three interquartile ranges.
    """
    numbers = None
    if features.numbers is not None:
        numbers = scaled_numbers(features, scaling)
    x = ColumnTokens()(_tokens(features, numbers, dim))
    for block in range(blocks):
        # Without the very first normalisation, which the paper found crucial
        asking = _normalize(x) if block else x
        is_last = block == blocks - 1
        attention = SelfAttention(heads, dropout=attention_dropout, first_only=is_last)
        y = keras.layers.Dropout(residual_dropout)(attention(asking))
        x = keras.layers.Add()([x[:, :1] if is_last else x, y])
        y = _feed_forward(_normalize(x), 4 * dim // 3, hidden_dropout)
        x = keras.layers.Add()([x, keras.layers.Dropout(residual_dropout)(y)])
    return keras.layers.Activation("relu")(_normalize(x[:, 0]))


def _tokens(features: Features, numbers: Any | None, dim: int) -> Any:
    """A vector for each column, `(batch, columns, dim)`; a gap adds one of its own."""
    parts = []
    if numbers is not None:
        tokens = NumberTokens(dim)(numbers)
        if (features.statistics.missing > 0).any():
            gaps = MissingIndicator(range(len(features.number_names)))
            learnt = NumberTokens(dim, initial="zeros", name="gap_tokens")
            tokens = keras.layers.Add()([tokens, learnt(gaps(features.numbers))])
        parts.append(tokens)
    if features.codes is not None:
        sizes = features.vocabulary_sizes
        # The spread of a uniform between -1 and 1 over the root of dim
        table = CategoryEmbedding(sizes, dim, scale=(3 * dim) ** -0.5)
        vectors = table(features.codes)
        table.table.decay_factor = 0.0  # as all tokens
        parts.append(keras.layers.Reshape((len(sizes), dim))(vectors))
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(axis=1)(parts)


def _feed_forward(x: Any, hidden: int, dropout: float) -> Any:
    """ReGLU, then linear (Shazeer 2020)."""
    gate = keras.layers.Dense(hidden, activation="relu")(x)
    y = keras.layers.Multiply()([keras.layers.Dense(hidden)(x), gate])
    return keras.layers.Dense(x.shape[-1])(keras.layers.Dropout(dropout)(y))


def _normalize(x: Any) -> Any:
    return keras.layers.LayerNormalization(epsilon=1e-5)(x)


def recipe(task: str, num_rows: int) -> dict[str, Any]:
    """How it is trained unless told otherwise: the default of the paper's authors."""
    return {
        "optimizer": {"name": "adamw", "learning_rate": 1e-4, "weight_decay": 1e-5},
        "schedule": {"name": "constant"},
        "fit": {"patience": 16, "epochs": 200},
    }
