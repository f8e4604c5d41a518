"""The batch at which training broke: kept as a file, and what is odd about it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from kerastrain.blocks import Blocks
from kerastrain.errors import listing
from kerastrain.features import Front
from kerastrain.pipeline import Rows
from kerastrain.store import atomic
from kerastrain.training.keeper import Diverged

__all__ = ["Offender"]

LARGE = 1e6  # standard deviations; beyond it a network cannot but overshoot


@dataclass(frozen=True)
class Offender:
    """Explains a divergence that persists.

    Args:
        clean: the train rows as clean columns, before the prefix.
        blocks: the same rows as the engine takes them.
        front: names the columns.
        path: where the batch is written, as Parquet.
    """

    clean: Rows
    blocks: Blocks
    front: Front
    path: Path

    def __call__(self, found: Diverged) -> str:
        if found.step is None:
            return ""
        rows = self.blocks.rows
        index = rows.index[self.blocks.rows_of(found.position.epoch, found.step)]
        table = self._table(index)
        with atomic(self.path) as temporary:
            pyarrow.parquet.write_table(table, temporary)
        return f"{self._cause(table, index)} The rows of the step are in {self.path}."

    def _table(self, index: np.ndarray) -> pa.Table:
        """Row numbers, clean columns by their names, target and weight."""
        clean = self.clean
        columns: dict[str, np.ndarray] = {"row": index}
        for kind, name in (("number", "numbers"), ("code", "codes")):
            if name in clean.inputs:
                values = clean.inputs[name][index]
                columns |= dict(zip(self._names(kind), values.T, strict=True))
        columns["(target)"] = clean.target[index]
        columns["(weight)"] = clean.weight[index]
        return pa.table({name: pa.array(v) for name, v in columns.items()})

    def _names(self, kind: str) -> list[str]:
        return [
            column.name if encoded.width == 1 else f"{column.name}.{i}"
            for column, encoded in self.front.of_kind(kind)
            for i in range(encoded.width)
        ]

    def _cause(self, table: pa.Table, index: np.ndarray) -> str:
        infinite, large = [], []
        for name in table.column_names[1:]:
            values = table[name].to_numpy().astype("float64")
            if np.isinf(values).any() or (name[0] == "(" and np.isnan(values).any()):
                infinite.append(name)
            elif np.nanmax(np.abs(values), initial=0.0) > LARGE:
                large.append(name)
        if infinite:
            return f"Infinite or missing values: {listing(infinite, limit=5)}."
        scaled = [array[index] for array in self.blocks.rows.inputs.values()]
        if any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in scaled):
            return "Its inputs are not finite behind the scaling of the columns."
        if large:
            return f"Very large values: {listing(large, limit=5)}."
        return "Its inputs are finite: the weights grew too fast (exploding gradient)."
