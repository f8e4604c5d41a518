"""Columns as tokens that attend to each other: the parts of FT-Transformer."""

import math
from typing import Any

import keras
from keras import ops

from kerastrain.layers import register

__all__ = ["ColumnTokens", "NumberTokens", "SelfAttention"]


def _uniform(dim: int) -> keras.initializers.Initializer:
    return keras.initializers.RandomUniform(-1 / math.sqrt(dim), 1 / math.sqrt(dim))


@register
class NumberTokens(keras.layers.Layer):
    """Each number times a learnt vector of its column. `(batch, n)` -> `(batch, n, d)`.

    Args:
        dim: `d`, length of a token.
        initial: of the vectors: `uniform` within `1 / sqrt(d)`, or `zeros` for
            indicators, so that one that is never seen stays neutral.

    Reference: Gorishniy et al. 2021, section 3.3, `T_j` without its bias, which is in
    `ColumnTokens`.
    """

    def __init__(self, dim: int, *, initial: str = "uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.dim = dim
        self.initial = initial

    def build(self, input_shape):
        is_zero = self.initial == "zeros"
        self.vectors = self.add_weight(
            shape=(input_shape[-1], self.dim),
            initializer="zeros" if is_zero else _uniform(self.dim),
            name="vectors",
        )
        self.vectors.decay_factor = 0.0  # as the authors; see `engine.optimizer`

    def call(self, numbers):
        return ops.expand_dims(numbers, -1) * self.vectors

    def get_config(self):
        return super().get_config() | {"dim": self.dim, "initial": self.initial}


@register
class ColumnTokens(keras.layers.Layer):
    """Tokens with a learnt bias for each column, behind a learnt `[CLS]` token.

    `(batch, n, d)` -> `(batch, 1 + n, d)`.

    Reference: Gorishniy et al. 2021, section 3.3: the `b_j` of all columns.
    """

    def build(self, input_shape):
        _, num_tokens, dim = input_shape
        self.bias = self.add_weight(
            shape=(1 + num_tokens, dim), initializer=_uniform(dim), name="bias"
        )
        self.bias.decay_factor = 0.0

    def call(self, tokens):
        return ops.pad(tokens, ((0, 0), (1, 0), (0, 0))) + self.bias

    def compute_output_spec(self, tokens):
        batch, num_tokens, dim = tokens.shape
        return keras.KerasTensor((batch, 1 + num_tokens, dim), self.compute_dtype)


@register
class SelfAttention(keras.layers.Layer):
    """Every token asks all tokens. `(batch, n, d)` -> `(batch, n, d)`.

    Args:
        num_heads: a divisor of `d`.
        dropout: share of the attention that is dropped in training.
        first_only: only the first token asks: `(batch, 1, d)`, all that the head needs
            of the last block.

    Reference: Vaswani et al. 2017, section 3.2.2; initial values of the authors of
    FT-Transformer.
    """

    def __init__(
        self,
        num_heads: int = 8,
        *,
        dropout: float = 0.0,
        first_only: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = float(dropout)
        self.first_only = first_only

    def build(self, input_shape):
        dim = input_shape[-1]
        if dim % self.num_heads:
            raise ValueError(
                f"{self.num_heads} heads cannot share tokens of length {dim}: it must "
                "be a multiple of the heads."
            )
        self.query, self.key = self._dense(dim, "query"), self._dense(dim, "key")
        self.value, self.mix = self._dense(dim, "value"), self._dense(dim, "mix")
        for layer in (self.query, self.key, self.value, self.mix):
            layer.build(input_shape)
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)

    def _dense(self, dim: int, name: str) -> keras.layers.Dense:
        # Initial values must be an object of each layer: one shared draws twins.
        return keras.layers.Dense(
            dim, kernel_initializer=_uniform(dim), dtype=self.dtype_policy, name=name
        )

    def call(self, tokens, training=None):
        asking = tokens[:, :1] if self.first_only else tokens
        query = self._heads(self.query(asking))
        key, value = self._heads(self.key(tokens)), self._heads(self.value(tokens))
        scale = 1 / math.sqrt(tokens.shape[-1] // self.num_heads)
        scores = ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))
        shares = self.drop(ops.softmax(scores, axis=-1), training=training)
        mixed = ops.transpose(ops.matmul(shares, value), (0, 2, 1, 3))
        return self.mix(ops.reshape(mixed, (-1, *asking.shape[1:])))

    def _heads(self, x: Any) -> Any:
        """`(batch, n, d)` -> `(batch, heads, n, d / heads)`."""
        _, num_tokens, dim = x.shape
        shape = (-1, num_tokens, self.num_heads, dim // self.num_heads)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def compute_output_spec(self, tokens, training=None):
        batch, num_tokens, dim = tokens.shape
        num_asking = 1 if self.first_only else num_tokens
        return keras.KerasTensor((batch, num_asking, dim), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "first_only": self.first_only,
        }
