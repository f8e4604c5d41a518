"""Many networks in one: members that share most weights, and the mean of what they say.

Reference: Gorishniy et al. 2025, "TabM", arXiv 2410.24210, section 3.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerastrain.layers import Exact, register

__all__ = [
    "BestMembers",
    "LinearBatchEnsemble",
    "MeanOfMembers",
    "MemberHeads",
    "MemberScale",
    "SharedDense",
    "tell_apart",
]

Start = Literal["ones", "signs", "normal"]


def _uniform(num_inputs: int) -> keras.initializers.Initializer:
    """Of the size that PyTorch begins linear layers with, the authors' among them."""
    limit = 1 / math.sqrt(num_inputs)
    return keras.initializers.RandomUniform(-limit, limit)


class _Scaling:
    """Initial scales `(k, width)`: one number for each member and chunk of inputs."""

    def __init__(self, start: str, chunks: Sequence[int]):
        self.start = start
        self.chunks = chunks

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if self.start == "ones":
            return ops.ones(shape, dtype)
        chunks = self.chunks or [1] * shape[1]
        if sum(chunks) != shape[1]:
            raise ValueError(
                f"chunks: they add up to {sum(chunks)}; there are {shape[1]} inputs."
            )
        drawn = keras.random.normal((shape[0], len(chunks)), dtype=dtype)
        if self.start == "signs":
            drawn = ops.where(drawn < 0, -1.0, 1.0)
        return ops.take(drawn, np.repeat(np.arange(len(chunks)), chunks), axis=1)


def _each(x: Any) -> Any:
    """What all members are given, where that is one row: `(batch, 1, inputs)`."""
    return x if len(x.shape) == 3 else ops.expand_dims(x, 1)


def _shared(x: Any, kernel: Any) -> Any:
    """One matrix product for all members; a batched one is ten times slower."""
    flat = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    return ops.reshape(flat, (-1, x.shape[1], kernel.shape[-1]))


@register
class MemberScale(keras.layers.Layer):
    """Each member's own scales of the inputs: all that parts members in TabM-mini.

    `(batch, inputs)` -> `(batch, k, inputs)`; `(batch, k, inputs)` is taken too.

    Args:
        k: members.
        start: initial scales: `ones`, random `signs`, or standard `normal`.
        chunks: lengths of the stretches of inputs, one for each column, that begin with
            the same scale; empty for a scale for each input.

    Reference: section 3.3, "TabM-mini".
    """

    def __init__(
        self,
        k: int = 32,
        start: Start = "normal",
        chunks: Sequence[int] = (),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.k = k
        self.start = start
        self.chunks = [int(size) for size in chunks]

    def build(self, input_shape):
        scaling = _Scaling(self.start, self.chunks)
        self.scale = self.add_weight((self.k, input_shape[-1]), scaling, name="scale")

    def call(self, x):
        return _each(x) * self.scale

    def compute_output_spec(self, x):
        shape = (x.shape[0], self.k, x.shape[-1])
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "k": self.k,
            "start": self.start,
            "chunks": self.chunks,
        }


@register
class SharedDense(keras.layers.Layer):
    """One linear layer for all members: `(batch, k, inputs)` -> `(batch, k, units)`.

    Args:
        units: outputs of each member.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        width = input_shape[-1]
        self.kernel = self.add_weight(
            (width, self.units), _uniform(width), name="kernel"
        )
        self.bias = self.add_weight((self.units,), _uniform(width), name="bias")

    def call(self, x):
        return _shared(x, self.kernel) + self.bias

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape[:-1], self.units), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"units": self.units}


@register
class LinearBatchEnsemble(keras.layers.Layer):
    """A linear layer whose members share the kernel `W`: `((x * r) W) * s + b`.

    `(batch, k, inputs)` -> `(batch, k, units)`; `(batch, inputs)` is taken too.

    Args:
        units: outputs of each member.
        k: members; each has its own `r`, `s` and `b`. All `b` begin alike.
        start: initial `r`: `ones`, random `signs`, or standard `normal`; `s` begins
            with ones.
        chunks: lengths of the stretches of inputs that begin with the same `r`; empty
            for one for each input.

    Reference: section 3.3; Wen et al. 2020, "BatchEnsemble", equation 5.
    """

    def __init__(
        self,
        units: int,
        k: int = 32,
        start: Start = "ones",
        chunks: Sequence[int] = (),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.k = k
        self.start = start
        self.chunks = [int(size) for size in chunks]

    def build(self, input_shape):
        width, k, units = input_shape[-1], self.k, self.units
        uniform = _uniform(width)
        self.kernel = self.add_weight((width, units), uniform, name="kernel")
        scaling = _Scaling(self.start, self.chunks)
        self.r = self.add_weight((k, width), scaling, name="r")
        self.s = self.add_weight((k, units), "ones", name="s")
        self.bias = self.add_weight(
            (k, units), lambda shape, dtype: self._alike(uniform, dtype), name="bias"
        )
        self.bias.decay_factor = 0.0  # a matrix, but a bias; see `engine.optimizer`

    def _alike(self, initial: Any, dtype: Any) -> Any:
        return ops.tile(initial((1, self.units), dtype), (self.k, 1))

    def call(self, x):
        return _shared(_each(x) * self.r, self.kernel) * self.s + self.bias

    def compute_output_spec(self, x):
        shape = (x.shape[0], self.k, self.units)
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "k": self.k,
            "start": self.start,
            "chunks": self.chunks,
        }


@register
class MemberHeads(Exact):
    """A linear layer of its own for each member, in float32.

    `(batch, k, inputs)` -> `(batch, k, units)`.

    Args:
        units: outputs of each member.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        _, k, width = input_shape
        uniform = _uniform(width)
        self.kernel = self.add_weight((k, width, self.units), uniform, name="kernel")
        self.bias = self.add_weight((k, self.units), uniform, name="bias")
        self.bias.decay_factor = 0.0

    def call(self, x):
        by_member = ops.matmul(ops.transpose(x, (1, 0, 2)), self.kernel)
        return ops.transpose(by_member, (1, 0, 2)) + self.bias

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape[:-1], self.units), "float32")

    def get_config(self):
        return super().get_config() | {"units": self.units}


@register
class BestMembers(keras.layers.Layer):
    """Passes all members on; after training the best ones are kept, others taken out.

    See `training.pruning`. Any shape -> the same.

    Args:
        most: members that are kept at most.
    """

    def __init__(self, most: int, **kwargs: Any):
        super().__init__(**kwargs)
        if most < 1:
            raise ValueError(f"BestMembers keeps 1 member at least, got {most}.")
        self.most = most

    def call(self, x):
        return x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def get_config(self):
        return super().get_config() | {"most": self.most}


@register
class MeanOfMembers(Exact):
    """Logits of the mean probability of the members, or the mean of their values.

    Log probabilities of several classes; of two classes the logit of the second. Made
    in logarithms: no probability is too small for it.

    In training by `tell_apart` the members stay apart, since each of them has its own
    loss, and the layer gives `(batch, k, outputs)`.

    Args:
        is_regression: the outputs are values, not logits.

    Shapes: `(batch, k, outputs)` -> `(batch, outputs)`.
    Reference: section 3.2: the mean of probabilities, not of logits.
    """

    is_apart = False  # of the process, not of the model: never saved

    def __init__(self, is_regression: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.is_regression = is_regression

    def call(self, outputs, training=False):
        if training and self.is_apart:
            return outputs
        if self.is_regression:
            return ops.mean(outputs, axis=1)
        if outputs.shape[-1] > 1:
            return _log_mean(ops.log_softmax(outputs, axis=-1))
        second, first = ops.log_sigmoid(outputs), ops.log_sigmoid(-outputs)
        return _log_mean(second) - _log_mean(first)

    def compute_output_spec(self, outputs, training=False):
        return keras.KerasTensor((outputs.shape[0], outputs.shape[-1]), "float32")

    def get_config(self):
        return super().get_config() | {"is_regression": self.is_regression}


def _log_mean(log_p: Any) -> Any:
    """Logarithm of the mean over members."""
    return ops.logsumexp(log_p, axis=1) - math.log(log_p.shape[1])


def tell_apart(model: keras.Model) -> None:
    """Let the members of `model`, if it has any, stay apart when it is trained."""
    for layer in model.layers:
        if isinstance(layer, MeanOfMembers):
            layer.is_apart = True
