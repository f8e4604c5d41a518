"""Layers of RealMLP (Holzmüller et al. 2024, "Better by default", arXiv 2407.04491).

Some have `initialise(inputs, targets, random)`, which training calls before its first
step; see `kerastrain.training.initial`. Until then they work, with plain weights.

How fast a weight learns, and how fast it decays, belongs to the parametrisation: it is
an attribute of the variable (`rate_factor`, `decay_factor`), which the optimiser reads;
see `kerastrain.engine.optimizer`. The authors' code multiplies the rate by its factor
twice where weights decay, and their numbers were found with it; so do we.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastrain.layers import Exact, register

__all__ = [
    "PBLD",
    "Clamp",
    "FrontScale",
    "LogitOfTwo",
    "NTKDense",
    "ParametricActivation",
    "SmallOneHot",
    "TakeColumns",
]


def _learns(variable: Any, rate: float) -> Any:
    variable.rate_factor = variable.decay_factor = rate
    return variable


@register
class PBLD(Exact):
    """Periodic, bias, linear, dense: a few learnt waves of each number beside itself.

    `cos(2 pi x w + b) @ v + c` for each column, and `x`. In float32 always, because the
    phase of a wave does not fit into 16 bits.

    Args:
        frequencies: waves of a column.
        width: outputs of a column, `x` among them.
        sigma: standard deviation of the initial frequencies.
        rate: factor of the learning rate.

    Shapes: `(batch, n)` -> `(batch, n * width)`; all waves, then all `x`.
    Reference: section 3.1, "PBLD"; without the last part Gorishniy et al. 2022.
    """

    def __init__(
        self,
        frequencies: int = 16,
        width: int = 4,
        sigma: float = 0.1,
        rate: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.frequencies = frequencies
        self.width = width
        self.sigma = sigma
        self.rate = rate

    def build(self, input_shape):
        n, f, out = input_shape[-1], self.frequencies, self.width - 1
        normal = keras.initializers.RandomNormal(stddev=self.sigma)
        phase = keras.initializers.RandomUniform(-math.pi, math.pi)
        edge = 1 / math.sqrt(f)
        linear = keras.initializers.RandomUniform(-edge, edge)
        self.frequency = self.add_weight((n, f), normal, name="frequency")
        self.phase = self.add_weight((n, f), phase, name="phase")
        self.mix = self.add_weight((n, f, out), linear, name="mix")
        self.shift = self.add_weight((n, out), linear, name="shift")
        for weight in (self.frequency, self.phase, self.mix, self.shift):
            _learns(weight, self.rate)

    def call(self, x):
        angle = 2 * math.pi * ops.expand_dims(x, -1) * self.frequency + self.phase
        waves = ops.einsum("bnf,nfo->bno", ops.cos(angle), self.mix) + self.shift
        flat = ops.reshape(waves, (-1, x.shape[-1] * (self.width - 1)))
        return ops.concatenate([flat, x], axis=-1)

    def get_config(self):
        return super().get_config() | {
            "frequencies": self.frequencies,
            "width": self.width,
            "sigma": self.sigma,
            "rate": self.rate,
        }


@register
class TakeColumns(Exact):
    """Some columns of a matrix, of any type. `(batch, n)` -> `(batch, len(columns))`.

    Args:
        columns: their positions.
    """

    def __init__(self, columns: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.columns = [int(column) for column in columns]

    def call(self, x):
        return ops.take(x, np.asarray(self.columns, "int32"), axis=1)

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], len(self.columns)), x.dtype)

    def get_config(self):
        return super().get_config() | {"columns": self.columns}


@register
class SmallOneHot(Exact):
    """Codes of columns with few categories to centred, scaled, clipped indicators.

    Missing, unseen and rare values are all zeros before that. A column of two known
    values gives one number, 1 for the first and -1 for the second.

    Args:
        vocabulary_sizes: number of codes of each column: 0 missing or unseen, 1 rare,
            2 and up known.

    `initialise` takes median and spread from the train rows; the numbers then pass
    through `(x - median) * factor` and `SmoothClip(3)`, as the number columns do.

    Shapes: int32 `(batch, columns)` -> `(batch, outputs)`, where a column gives one
    output for each known value, or one in all.
    Reference: section 3.1. DIFFERS: rare values, which the authors do not set apart,
    count as missing; those of a column without known ones are an output.
    """

    def __init__(self, vocabulary_sizes: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary_sizes = [int(size) for size in vocabulary_sizes]
        outputs = [
            (column, first, second)
            for column, size in enumerate(self.vocabulary_sizes)
            for first, second in _codes_of(size)
        ]
        self._columns, self._first, self._second = np.array(outputs, "int32").T

    def build(self, input_shape):
        width = (len(self._columns),)
        self.center = self.add_weight(width, "zeros", trainable=False, name="center")
        self.factor = self.add_weight(width, "ones", trainable=False, name="factor")

    def initialise(self, inputs, targets, random):
        raw = ops.convert_to_numpy(self._raw(inputs))
        low, median, high = np.quantile(raw, [0.25, 0.5, 0.75], axis=0)
        spread = np.where(high > low, high - low, (raw.max(0) - raw.min(0)) / 2)
        self.center.assign(median)
        self.factor.assign(np.where(spread > 0, 1 / np.maximum(spread, 1e-9), 0))

    def call(self, codes):
        scaled = (self._raw(codes) - self.center) * self.factor
        return scaled / ops.sqrt(1 + ops.square(scaled / 3))

    def _raw(self, codes: Any) -> Any:
        """1, -1 and 0 before scaling, for all columns at once."""
        spread = ops.take(codes, self._columns, axis=1)
        is_first = ops.cast(ops.equal(spread, self._first), "float32")
        return is_first - ops.cast(ops.equal(spread, self._second), "float32")

    def compute_output_spec(self, codes):
        return keras.KerasTensor((codes.shape[0], len(self._columns)), "float32")

    def get_config(self):
        return super().get_config() | {"vocabulary_sizes": self.vocabulary_sizes}


def _codes_of(size: int) -> list[tuple[int, int]]:
    """For each output of a column, the code that gives 1 and that which gives -1."""
    if size == 4:  # missing, rare and two known ones
        return [(2, 3)]
    return [(code, -1) for code in range(2, size)] or [(1, -1)]


@register
class FrontScale(keras.layers.Layer):
    """A learnt factor for each column, 1 at first: soft selection of columns.

    Args:
        rate: factor of the learning rate.

    Shapes: `(batch, n)` -> `(batch, n)`.
    Reference: section 3.2, "scaling layer".
    """

    def __init__(self, rate: float = 6.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate

    def build(self, input_shape):
        scale = self.add_weight((input_shape[-1],), "ones", name="scale")
        self.scale = _learns(scale, self.rate)

    def call(self, x):
        return x * self.scale

    def get_config(self):
        return super().get_config() | {"rate": self.rate}


@register
class NTKDense(keras.layers.Layer):
    """`x @ W / sqrt(inputs) + b`: how fast it learns does not go by its width.

    Args:
        units: outputs.
        bias_rate: factor of the learning rate of the biases, which never decay.

    `initialise` makes each output, before the bias, of variance 1 over the train rows,
    and each bias minus a random mean of its outputs for five of them.

    Shapes: `(batch, n)` -> `(batch, units)`.
    Reference: section 3.2; the bias is "he+5" of Steinwart 2019. DIFFERS: an output
    that is the same for all rows is left as it is, where the paper divides by 0.
    """

    def __init__(self, units: int, bias_rate: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.bias_rate = bias_rate

    def build(self, input_shape):
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.kernel = self.add_weight(
            (input_shape[-1], self.units), normal, name="kernel"
        )
        self.bias = self.add_weight((self.units,), "zeros", name="bias")
        self.bias.rate_factor = self.bias_rate

    def initialise(self, inputs, targets, random):
        x = ops.convert_to_numpy(ops.cast(inputs, "float32"))
        kernel = random.standard_normal((x.shape[1], self.units), "float32")
        outputs = x @ kernel / math.sqrt(x.shape[1])
        spread = outputs.std(axis=0)
        spread = np.where(spread > 1e-6, spread, 1)
        shares = random.standard_exponential((5, self.units))
        rows = random.integers(len(x), size=(5, self.units))
        drawn = outputs[rows, np.arange(self.units)] / spread
        self.kernel.assign(kernel / spread)
        self.bias.assign(-(drawn * shares / shares.sum(axis=0)).sum(axis=0))

    def call(self, x):
        # The factor on the smaller matrix: half the work of one on the product.
        kernel = self.kernel * (1 / math.sqrt(x.shape[-1]))
        return ops.add(ops.matmul(x, kernel), self.bias)

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "bias_rate": self.bias_rate,
        }


@register
class ParametricActivation(keras.layers.Layer):
    """`x + a * (f(x) - x)`: each unit learns how far it bends. Any shape.

    Args:
        activation: `f`, any of Keras' activations.
        rate: factor of the learning rate of `a`.

    Reference: section 3.2, "parametric activation"; `a` is 1 at first.
    """

    def __init__(self, activation: str = "selu", rate: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activation
        self.rate = rate
        self._function = keras.activations.get(activation)

    def build(self, input_shape):
        bend = self.add_weight((input_shape[-1],), "ones", name="bend")
        self.bend = _learns(bend, self.rate)

    def call(self, x):
        return x + self.bend * (self._function(x) - x)

    def get_config(self):
        return super().get_config() | {
            "activation": self.activation,
            "rate": self.rate,
        }


@register
class LogitOfTwo(Exact):
    """Scores of two classes to the logit of the second. `(batch, 2)` -> `(batch, 1)`.

    Two scores learn as those of more classes do; of one, half as fast.
    """

    def call(self, scores):
        return scores[:, 1:] - scores[:, :1]


@register
class Clamp(Exact):
    """Values kept in the range of the train targets, but not in training. Any shape.

    `initialise` takes the range. Reference: section 3.2.
    """

    def build(self, input_shape):
        least, most = (keras.initializers.Constant(end) for end in (-3e38, 3e38))
        self.low = self.add_weight((), least, trainable=False, name="low")
        self.high = self.add_weight((), most, trainable=False, name="high")

    def initialise(self, inputs, targets, random):
        self.low.assign(targets.min())
        self.high.assign(targets.max())

    def call(self, x, training=False):
        return x if training else ops.clip(x, self.low, self.high)
