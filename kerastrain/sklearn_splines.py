"""Numbers as curves for linear models: straight pieces, and surfaces over pairs.

A linear model over them is a sum of curves, one for each number, and of surfaces over
the pairs that interact most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastrain.layers import Exact, register
from kerastrain.nets.piecewise import PiecewiseLinear, bin_edges

__all__ = ["PairProducts", "Splines", "strongest_pairs"]

_SHARES = 1_001  # quantiles that come in
_PAIR_BINS = 6
# Weights of surfaces are drawn to 0 by the inverse square of this, beside those of
# curves: 0.3 was the best of 1 and 0.3 on adult and telco_churn.
_PAIR_SCALE = 0.3
_PAIR_ROWS = 20_000
_PAIR_COLUMNS = 64
# Rows that have no effect, beside those of a cell.
_SMOOTHING = 20.0


@register
class PairProducts(Exact):
    """Products of two columns' hats, of which two are above 0 at a time: a surface that
    is bent only at the knots.

    Args:
        left, right: columns of each pair.
        scale: factor of all.

    Shapes: places of `PiecewiseLinear` `(batch, n, bins)` in 0 to 1 ->
        `(batch, len(left) * (bins + 1) ** 2)`.
    """

    widens = True  # see `pipeline.cut`

    def __init__(
        self,
        left: Sequence[int],
        right: Sequence[int],
        scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.left = [int(one) for one in left]
        self.right = [int(one) for one in right]
        self.scale = float(scale)

    def call(self, places: Any) -> Any:
        ones = ops.ones_like(places[..., :1])
        hats = ops.concatenate([ones, places], -1) - ops.concatenate(
            [places, 0 * ones], -1
        )
        a = ops.expand_dims(ops.take(hats, np.asarray(self.left), axis=1), -1)
        b = ops.expand_dims(ops.take(hats, np.asarray(self.right), axis=1), -2)
        return ops.reshape(a * b * self.scale, (-1, self._width(places)))

    def _width(self, places: Any) -> int:
        return len(self.left) * (places.shape[-1] + 1) ** 2

    def compute_output_spec(self, places: Any) -> Any:
        return keras.KerasTensor((places.shape[0], self._width(places)), "float32")

    def get_config(self) -> dict[str, Any]:
        own = {"left": self.left, "right": self.right, "scale": self.scale}
        return super().get_config() | own


@dataclass(frozen=True)
class Splines:
    """Scaled numbers as places in their bins, and products of pairs.

    Beyond the outermost edges curves and surfaces are level.

    Args:
        edges: of the bins of each column.
        coarse: the same with few bins, for pairs.
        pairs: two columns each.
    """

    edges: list[np.ndarray]
    coarse: list[np.ndarray]
    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, quantiles: np.ndarray, num_bins: int) -> "Splines":
        """From quantiles of the scaled numbers, `(columns, 1001)`."""
        edges, coarse = (
            bin_edges(quantiles[:, _every(bins)].astype("float64"))
            for bins in (num_bins, _PAIR_BINS)
        )
        return cls(edges, coarse)

    @property
    def pair_width(self) -> int:
        """Numbers of one pair."""
        return max(len(one) for one in self.coarse) ** 2

    @property
    def width(self) -> int:
        return len(self.kept)

    @cached_property
    def kept(self) -> np.ndarray:
        """Of all places and products those that are not always 0, nor a straight line.

        Columns have fewer bins than the one that has most.
        """
        num_bins = [len(one) - 1 for one in self.edges]
        is_place = np.arange(max(num_bins)) < np.array(num_bins)[:, None]
        is_place &= np.array(num_bins)[:, None] > 1  # the number itself is one already
        num_knots = np.array([len(one) for one in self.coarse])
        is_hat = np.arange(num_knots.max()) < num_knots[:, None]
        products = [np.outer(is_hat[a], is_hat[b]).ravel() for a, b in self.pairs]
        return np.flatnonzero(np.concatenate([is_place.ravel(), *products]))

    def __call__(self, scaled: Any) -> Any:
        """Of an array or a Keras tensor `(batch, n)` to the same `(batch, width)`."""
        places = ops.clip(PiecewiseLinear.of(self.edges)(scaled), 0.0, 1.0)
        flat = ops.reshape(places, (-1, places.shape[1] * places.shape[2]))
        if self.pairs:
            flat = ops.concatenate([flat, self._surfaces(scaled)], axis=-1)
        return ops.take(flat, self.kept, axis=1)

    def _surfaces(self, scaled: Any) -> Any:
        coarse = ops.clip(PiecewiseLinear.of(self.coarse)(scaled), 0.0, 1.0)
        left, right = zip(*self.pairs, strict=True)
        return PairProducts(left, right, _PAIR_SCALE)(coarse)

    def cells(self, scaled: np.ndarray) -> np.ndarray:
        """Number of the coarse bin of each cell of a matrix, same shape."""
        found = [
            np.searchsorted(edges[1:-1], column, side="right")
            for edges, column in zip(self.coarse, scaled.T, strict=True)
        ]
        return np.stack(found, axis=1)


def _every(num_bins: int) -> np.ndarray:
    return np.linspace(0, _SHARES - 1, num_bins + 1).round().astype("int64")


def strongest_pairs(
    cells: np.ndarray, residual: np.ndarray, most: int
) -> tuple[tuple[int, int], ...]:
    """Pairs of columns whose cells explain most of what curves leave over.

    Args:
        cells: codes `(rows, n)`; evenly spaced rows of very many are looked at.
        residual: `(rows, outputs)`.
        most: pairs that are wanted.
    """
    step = -(-len(cells) // _PAIR_ROWS)
    cells, residual = cells[::step], residual[::step].astype("float64")
    size = int(cells.max(initial=0)) + 1
    alone = [_explained(column, residual, size) for column in cells.T]
    kept = np.sort(np.argsort(alone, kind="stable")[::-1][:_PAIR_COLUMNS])
    gains = {
        (a, b): _explained(cells[:, a] * size + cells[:, b], residual, size * size)
        - alone[a]
        - alone[b]
        for a, b in combinations(kept.tolist(), 2)
    }
    return tuple(sorted(gains, key=lambda pair: -gains[pair])[:most])


def _explained(codes: np.ndarray, residual: np.ndarray, size: int) -> float:
    """Squares that smoothed means of the codes take off."""
    counts = np.bincount(codes, minlength=size) + _SMOOTHING
    sums = [np.bincount(codes, values, size) for values in residual.T]
    return float(sum((one**2 / counts).sum() for one in sums))
