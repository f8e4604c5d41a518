"""Rows that the checks of leaks look at, column by column, as the model gets them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerastrain.columns import COLUMNS
from kerastrain.schema import Column, Schema, Target
from kerastrain.statistics import Cells

__all__ = ["Sample"]

# 2,000 columns of 10,000 rows: 3 s of single-column scores.
_MAX_CELLS = 20_000_000
_MIN_ROWS = 10_000
# What tells 50 classes apart gives a thousand away as well.
_MAX_CLASSES = 50

Values: TypeAlias = np.ndarray | pa.Array


@dataclass(frozen=True)
class Sample:
    """Rows with a known target.

    Args:
        inputs: by column name, float32 with NaN for missing or texts with "" for it.
        y: float64, the position of the class in `target.labels` or the number.
    """

    target: Target
    inputs: dict[str, Values]
    y: np.ndarray

    @classmethod
    def of(cls, cells: Cells, schema: Schema) -> "Sample":
        """About 50,000 rows at most, fewer where there are very many columns."""
        assert schema.target is not None
        goal, features = schema[schema.target.name], schema.features
        table = cells.sample([goal.name, *(column.name for column in features)])
        table = _at_most(table, max(_MIN_ROWS, _MAX_CELLS // len(table.schema)))
        y = _positions(_input(goal, table, cells.where), schema.target)
        known = _known(y, schema.target)
        if not known.all():
            table, y = table.filter(pa.array(known)), y[known]
        inputs = {
            column.name: _input(column, table, cells.where) for column in features
        }
        return cls(schema.target, inputs, y)

    def missing(self, name: str) -> np.ndarray:
        """bool `(rows,)`."""
        values = self.inputs[name]
        if isinstance(values, np.ndarray):
            return np.isnan(values)
        return pc.equal(values, "").to_numpy(zero_copy_only=False)


def _at_most(table: pa.Table, num_rows: int) -> pa.Table:
    if table.num_rows <= num_rows:
        return table
    random = np.random.default_rng(0)  # every n-th row would follow a period
    rows = random.choice(table.num_rows, num_rows, replace=False)
    return table.take(pa.array(np.sort(rows)))


def _input(column: Column, table: pa.Table, where: str) -> Values:
    array = table.column(column.name).combine_chunks()
    read = column
    if column.type == "numeric" and column.dtype == "string":
        read = column.model_copy(update={"dtype": "float32"})
    return COLUMNS.load(column.type).to_input(read, array, where=where, first_row=0)


def _positions(values: Values, target: Target) -> np.ndarray:
    """Numbers, or the position of each label, as float64; NaN for missing."""
    if isinstance(values, np.ndarray):
        return values.astype("float64")
    positions = pc.index_in(values, pa.array(target.labels)).cast(pa.float64())
    return positions.to_numpy(zero_copy_only=False)


def _known(y: np.ndarray, target: Target) -> np.ndarray:
    """Rows that have a target; of very many classes, those of the largest ones."""
    known = ~np.isnan(y)
    if len(target.labels) <= _MAX_CLASSES:
        return known
    counts = np.bincount(y[known].astype("int64"), minlength=len(target.labels))
    largest = np.argsort(-counts, kind="stable")[:_MAX_CLASSES]
    return known & np.isin(y, largest)
