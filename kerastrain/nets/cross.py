"""The cross layer of DCN-V2: products of columns, one degree more with each layer."""

from typing import Any

import keras
from keras import ops

from kerastrain.layers import register

__all__ = ["Cross"]


@register
class Cross(keras.layers.Layer):
    """`x0 * f(x) + x` of `x0`, the columns, and `x`, what the layer before made.

    Two tensors `(batch, d)` -> `(batch, d)`. With weights `W`, `U`, `V`, `C`, `b`,

    * `f(x) = W x + b`, `W` of full rank (equation 1), or
    * `f(x) = U V x + b` with a `rank` (equation 2), or
    * `f(x) = sum_i g_i(x) * U_i tanh(C_i tanh(V_i x)) + b` with several experts, whose
      shares `g(x) = softmax(G x)` add up to 1 (equations 3 and 4).

    Args:
        rank: of the product that stands for `W`; None for `W` itself.
        num_experts: of such a rank; more than 1 needs `rank`.

    Reference: Wang et al. 2021, "DCN V2", arXiv 2008.13535, sections 3.2 and 3.5.
    """

    def __init__(self, rank: int | None = None, *, num_experts: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        if num_experts > 1 and rank is None:
            raise ValueError(f"{num_experts} experts of a cross layer need a rank.")
        self.rank = rank
        self.num_experts = num_experts

    def build(self, input_shapes):
        dim = input_shapes[0][-1]
        if self.rank is None:
            self.kernel = self._weight("kernel", (dim, dim))
        else:
            width = self.rank * self.num_experts
            self.down = self._weight("down", (dim, width))
            self.up = self._weight("up", (width, dim))
        if self.num_experts > 1:
            experts = (self.num_experts, self.rank, self.rank)
            self.inner = self._weight("inner", experts)
            self.gate = self._weight("gate", (dim, self.num_experts))
        self.bias = self._weight("bias", (dim,), "zeros")

    def _weight(self, name: str, shape: Any, initial: str = "glorot_uniform") -> Any:
        return self.add_weight(shape=shape, initializer=initial, name=name)

    def call(self, inputs):
        x0, x = inputs
        if self.rank is None:
            product = ops.matmul(x, self.kernel)
        elif self.num_experts == 1:
            product = ops.matmul(ops.matmul(x, self.down), self.up)
        else:
            product = ops.matmul(self._experts(x), self.up)
        return x0 * (product + self.bias) + x

    def _experts(self, x: Any) -> Any:
        """What the experts think, each times its share: `(batch, experts * rank)`."""
        shape = (-1, self.num_experts, self.rank)
        thoughts = ops.reshape(ops.tanh(ops.matmul(x, self.down)), shape)
        by_expert = ops.matmul(ops.transpose(thoughts, (1, 0, 2)), self.inner)
        thoughts = ops.tanh(ops.transpose(by_expert, (1, 0, 2)))
        shares = ops.softmax(ops.matmul(x, self.gate), axis=-1)
        weighed = thoughts * ops.expand_dims(shares, -1)
        return ops.reshape(weighed, (-1, self.down.shape[-1]))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[1].shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "rank": self.rank,
            "num_experts": self.num_experts,
        }
