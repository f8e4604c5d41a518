"""Schema + statistics of the train rows: raw inputs, encoded columns as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerastrain.arrays import pieces
from kerastrain.columns import COLUMNS
from kerastrain.config import FeaturesConfig
from kerastrain.encoded import Encoded, TrainValues
from kerastrain.layers import (
    CategoryEmbedding,
    Impute,
    MissingIndicator,
    RobustScale,
    SignedLog,
    SmoothClip,
)
from kerastrain.schema import Column, Schema

__all__ = ["Features", "Front", "NumberStatistics"]

# Quantiles are taken on at most this many rows, evenly spaced: 200,000 give the
# median of a column to 0.1 % of its rank, and a sort of them takes 2 ms.
_QUANTILE_ROWS = 200_000
# Shares at which quantiles are kept: 1,000 is what quantile transforms ask at most.
_SHARES = np.linspace(0, 1, 1_001)
_SAMPLE_CELLS = 16_000_000


@dataclass(frozen=True)
class NumberStatistics:
    """Statistics of the number matrix over train rows; each `(columns,)` float64.

    A column with no present value counts as all zeros.

    Args:
        missing: share of the rows.
        quantiles: at the shares 0, 0.001 ... 1, float32 `(columns, 1001)`, ascending.
        num_rows: train rows, those that were not looked at too.
    """

    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    min: np.ndarray
    max: np.ndarray
    missing: np.ndarray
    quantiles: np.ndarray
    num_rows: int

    @classmethod
    def of(cls, numbers: np.ndarray, rows: np.ndarray) -> "NumberStatistics":
        """From `numbers` `(all rows, columns)` float32 with NaN, at these `rows`."""
        step = max(1, -(-len(rows) // _QUANTILE_ROWS))
        sample = rows[::step]
        described, quantiles = [], []
        # Some columns at a time: 200,000 rows of 2,000 columns would be 1.6 GB.
        for columns in pieces(numbers.shape[1], _SAMPLE_CELLS // max(1, len(sample))):
            # And some rows: a gather of whole rows copies all of their columns.
            chunks = [
                numbers[sample[p]][:, columns] for p in pieces(len(sample), 8_192)
            ]
            drawn = np.concatenate(chunks or [numbers[sample][:, columns]])
            # Sorted once, NaN last: all that follows is then read off.
            ordered = np.sort(drawn.T, axis=1)
            described += [_describe(column) for column in ordered]
            quantiles += [_quantiles(column) for column in ordered]
        median, low, high, least, most, missing = (
            np.asarray(described, dtype="float64").reshape(-1, 6).T
        )
        shape = (-1, len(_SHARES))
        grid = np.asarray(quantiles, dtype="float32").reshape(shape)
        return cls(median, low, high, least, most, missing, grid, len(rows))

    def quantiles_at(self, shares: np.ndarray) -> np.ndarray:
        """Quantiles at any shares, by linear interpolation, `(columns, shares)`."""
        found = [np.interp(shares, _SHARES, column) for column in self.quantiles]
        return np.asarray(found, "float32").reshape(-1, len(shares))

    def factor(self) -> np.ndarray:
        """One over the interquartile range; where that is 0, two over the range.

        Reference: RealMLP (Holzmüller et al. 2024), section 3.1.
        """
        spread = np.stack([self.high - self.low, (self.max - self.min) / 2])
        # Below that, float32 has no number for the inverse.
        is_wide = spread > np.finfo("float32").tiny
        inverse = np.where(is_wide, 1 / np.where(is_wide, spread, 1), 0)
        return np.where(inverse[0] > 0, inverse[0], inverse[1])


def _describe(column: np.ndarray) -> list[float]:
    present = column[~np.isnan(column)].astype("float64")
    missing = 1 - len(present) / max(1, len(column))
    if not len(present):
        return [0.0, 0.0, 0.0, 0.0, 0.0, missing]
    low, median, high = np.quantile(present, [0.25, 0.5, 0.75])
    return [median, low, high, present.min(), present.max(), missing]


def _quantiles(column: np.ndarray) -> np.ndarray:
    present = column[~np.isnan(column)].astype("float64")
    return np.quantile(present if len(present) else np.zeros(1), _SHARES)


class Front:
    """The string front: raw inputs to the matrices `numbers` and `codes`.

    Args:
        schema: columns; those with the role `feature` become inputs.
        values: for each column read as text, what the train rows hold.
        config: vocabulary limits.

    Attributes:
        inputs: Keras input of each column, by input name; each has shape `(batch,)`.
        columns: each feature column with its encoding.
        model: `inputs` to a dict with `numbers` float32 `(batch, n)`, NaN for missing,
            and `codes` int32 `(batch, m)`, 0 for missing or unseen; a matrix without
            columns is left out.
    """

    def __init__(
        self, schema: Schema, values: Mapping[str, TrainValues], config: FeaturesConfig
    ):
        self.inputs = {
            column.input: keras.Input((), name=column.input, dtype=column.dtype)
            for column in schema.features
        }
        self.columns: list[tuple[Column, Encoded]] = [
            (column, self._encode(column, values.get(column.name), config))
            for column in schema.features
        ]
        self.model = keras.Model(self.inputs, self._matrices(), name="front")

    def _encode(
        self, column: Column, values: TrainValues | None, config: FeaturesConfig
    ) -> Encoded:
        encoder = COLUMNS.load(column.type, trusted=False)()
        return encoder.encode(column, self.inputs[column.input], values, config)

    def of_kind(self, kind: str) -> list[tuple[Column, Encoded]]:
        return [(column, e) for column, e in self.columns if e.kind == kind]

    def _matrices(self) -> dict[str, Any]:
        matrices = {}
        for name, kind in (("numbers", "number"), ("codes", "code")):
            parts = [_as_matrix(encoded) for _, encoded in self.of_kind(kind)]
            if len(parts) == 1:
                matrices[name] = parts[0]
            elif parts:
                layer = keras.layers.Concatenate(name=name, dtype=parts[0].dtype)
                matrices[name] = layer(parts)
        return matrices

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        return tuple(name for _, e in self.of_kind("number") for name in e.names)

    @cached_property
    def code_names(self) -> tuple[str, ...]:
        return tuple(name for _, e in self.of_kind("code") for name in e.names)

    @cached_property
    def vocabulary_sizes(self) -> tuple[int, ...]:
        return tuple(e.vocabulary_size for _, e in self.of_kind("code"))


def _as_matrix(encoded: Encoded) -> Any:
    if len(encoded.tensor.shape) == 2:
        return encoded.tensor
    return ops.expand_dims(encoded.tensor, -1)


@dataclass(frozen=True)
class Features:
    """What a model function gets: clean tensors and the statistics to scale them with.

    Args:
        inputs: of the numeric core; `numbers` and `codes` are these, passed on.
        numbers: float32 `(batch, n)`, NaN for missing; None without number columns.
        codes: int32 `(batch, m)`, 0 for missing or unseen; None without categories.
        number_names, code_names: names of the columns of the two matrices.
        vocabulary_sizes: number of codes of each code column.
        statistics: of `numbers` over the train rows.
        num_outputs: units of the head that follows the model.
    """

    inputs: dict[str, Any]
    numbers: Any
    codes: Any
    number_names: tuple[str, ...]
    code_names: tuple[str, ...]
    vocabulary_sizes: tuple[int, ...]
    statistics: NumberStatistics
    num_outputs: int

    @classmethod
    def of(
        cls, front: Front, statistics: NumberStatistics, num_outputs: int
    ) -> "Features":
        """Fresh input tensors of the numeric core, shaped like the front's outputs."""
        inputs = {
            name: keras.Input(tensor.shape[1:], name=name, dtype=tensor.dtype)
            for name, tensor in front.model.output.items()
        }
        # Identity: Keras 3.15 loses the history of an Input that is also an input of a
        # sub-model beside intermediate tensors, as the cut makes them; the whole model
        # then no longer saves ("could not find node key").
        tensors = {
            name: keras.layers.Identity(dtype=tensor.dtype, name=f"clean_{name}")(
                tensor
            )
            for name, tensor in inputs.items()
        }
        return cls(
            inputs,
            tensors.get("numbers"),
            tensors.get("codes"),
            front.number_names,
            front.code_names,
            front.vocabulary_sizes,
            statistics,
            num_outputs,
        )

    def scaled_numbers(self, *, squash: Literal["log", "clip"] = "log") -> Any:
        """Numbers imputed by medians, scaled robustly, with their tails drawn in."""
        median = self.statistics.median.tolist()
        imputed = Impute(median)(self.numbers)
        scaled = RobustScale(median, self.statistics.factor().tolist())(imputed)
        return (SignedLog() if squash == "log" else SmoothClip())(scaled)

    def missing_indicators(self) -> Any | None:
        """1.0 where a number is missing, for columns with gaps in the train rows."""
        columns = np.flatnonzero(self.statistics.missing > 0)
        return (
            MissingIndicator(columns.tolist())(self.numbers) if len(columns) else None
        )

    def embedded_codes(self, *, dim: int = 8) -> Any:
        """A learnt vector of length `dim` for each category, `(batch, m * dim)`."""
        return CategoryEmbedding(self.vocabulary_sizes, dim)(self.codes)

    def flat(
        self, *, squash: Literal["log", "clip"] = "log", embedding_dim: int = 8
    ) -> Any:
        """All columns as one float matrix: what most networks start from."""
        parts: Sequence[Any] = [
            *([self.scaled_numbers(squash=squash)] if self.numbers is not None else []),
            *([self.missing_indicators()] if self.numbers is not None else []),
            *(
                [self.embedded_codes(dim=embedding_dim)]
                if self.codes is not None
                else []
            ),
        ]
        parts = [part for part in parts if part is not None]
        return parts[0] if len(parts) == 1 else keras.layers.Concatenate()(parts)
