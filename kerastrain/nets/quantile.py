"""Numbers to a normal distribution, by their rank among the train rows."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastrain.layers import Exact, register

__all__ = ["QuantileNormal", "normal_quantile"]

# The least share of rows below or above a number; the results lie within 5.2.
LEAST_SHARE = 1e-7


@register
class QuantileNormal(Exact):
    """Each column to a standard normal, by its quantiles. `(batch, n)` -> `(batch, n)`.

    Linear in the rank between two knots; a value that several knots share gets the
    middle of their ranks; beyond the first and last knot the result stays at theirs.
    NaN stays NaN.

    The knots are variables that no optimiser sees; make a layer with `of`.

    Args:
        num_columns: `n`.
        num_knots: of each column, 2 at least.

    Reference: scikit-learn's `QuantileTransformer(output_distribution="normal")`,
    whose numbers these are. DIFFERS: a value that many rows share counts with the
    middle of its ranks at both ends too, as if a little noise had parted them (what
    the authors of FT-Transformer and TabM do), and not as 5.2; so a column of one value
    gives 0. Numbers closer than 1e-7 to an end are not drawn to it.
    """

    def __init__(self, num_columns: int, num_knots: int, **kwargs: Any):
        super().__init__(**kwargs)
        if num_knots < 2:
            raise ValueError(f"QuantileNormal needs 2 knots at least, got {num_knots}.")
        self.num_columns = num_columns
        self.num_knots = num_knots

    @classmethod
    def of(cls, quantiles: np.ndarray, **kwargs: Any) -> "QuantileNormal":
        """From quantiles at evenly spaced shares from 0 to 1, `(n, knots)`, sorted."""
        layer = cls(*quantiles.shape, **kwargs)
        layer.build((None, layer.num_columns))
        knots = quantiles.astype("float32")
        layer.knots.assign(knots.ravel())
        layer.ranks.assign(_middle_ranks(knots).ravel())
        return layer

    def build(self, input_shape):
        shape = (self.num_columns * self.num_knots,)
        self.knots = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name="knots"
        )
        self.ranks = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name="ranks"
        )

    def call(self, numbers):
        is_missing = ops.isnan(numbers)
        x = ops.where(is_missing, 0.0, numbers)
        last = self.num_knots - 1
        first = np.arange(self.num_columns, dtype="int32") * self.num_knots
        x = ops.maximum(x, ops.take(self.knots, first))
        x = ops.minimum(x, ops.take(self.knots, first + last))
        at = self._knot_below(x, first)
        low = ops.take(self.knots, at)
        high = ops.take(self.knots, ops.minimum(at + 1, first + last))
        is_between = x > low
        width = ops.where(is_between, high - low, 1.0)
        share = ops.where(is_between, (x - low) / width, 0.0)
        # Ranks are counted from both ends: float32 parts 1e-7 from 0 but not from 1.
        at_knot = ops.take(self.ranks, at)
        base = ops.cast(at - first, "float32")
        from_low = ops.where(is_between, base + share, at_knot)
        from_high = ops.where(is_between, (last - base) - share, last - at_knot)
        z = normal_quantile(from_low / last, from_high / last)
        return ops.where(is_missing, numbers, z)

    def _knot_below(self, x: Any, first: np.ndarray) -> Any:
        """Place of the last knot that is not above `x`, by bisection.

        Comparisons and gathers only: ONNX and LiteRT have no `searchsorted`.
        """
        at = ops.zeros_like(x, dtype="int32") + first
        for power in reversed(range((self.num_knots - 1).bit_length())):
            further = ops.minimum(at + 2**power, first + (self.num_knots - 1))
            is_above = ops.take(self.knots, further) > x
            at = ops.where(is_above, at, further)
        return at

    def compute_output_spec(self, numbers):
        return keras.KerasTensor(numbers.shape, "float32")

    def get_config(self):
        return super().get_config() | {
            "num_columns": self.num_columns,
            "num_knots": self.num_knots,
        }


def _middle_ranks(knots: np.ndarray) -> np.ndarray:
    """Mean rank of the knots that equal each knot, `(n, knots)` of sorted rows."""
    pairs = [
        (np.searchsorted(c, c, "left"), np.searchsorted(c, c, "right")) for c in knots
    ]
    ranks = [(left + right - 1) / 2 for left, right in pairs]
    return np.asarray(ranks, "float32").reshape(knots.shape)


def normal_quantile(below: Any, above: Any) -> Any:
    """The `x` that a standard normal is below with a share of `below`. Any shape.

    Args:
        below, above: shares that add up to 1; both are asked for as one of them has
            lost its digits where the other is near 1.

    Within 2e-6 of the true value; logarithms and square roots only, as neither ONNX nor
    LiteRT have the inverse of the error function.
    Reference: Giles 2010, "Approximating the erfinv function", table 5.
    """
    below = ops.clip(below, LEAST_SHARE, 1)
    above = ops.clip(above, LEAST_SHARE, 1)
    # -log(1 - y^2) of y = below - above, without the loss of digits near -1 and 1
    w = -ops.log(4 * below * above)
    near = _polynomial(_NEAR, w - 2.5)
    far = _polynomial(_FAR, ops.sqrt(ops.maximum(w, 5.0)) - 3)
    return math.sqrt(2) * (below - above) * ops.where(w > 5, far, near)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    total = coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


_NEAR = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_FAR = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)
