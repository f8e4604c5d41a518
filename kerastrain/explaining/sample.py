"""The rows that explanations go by: held out, few, and kept for later in the folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kerastrain.errors import RunError
from kerastrain.ingest import Table
from kerastrain.parts import Parts
from kerastrain.schema import Schema
from kerastrain.store import atomic

__all__ = ["HeldOut", "read_background", "write_background"]

MAX_ROWS = 10_000  # for errors and slices; what asks the model often takes fewer
BACKGROUND_ROWS = 100

Raw = dict[str, np.ndarray]


@dataclass(frozen=True)
class HeldOut:
    """Rows with a known target that the model was not trained on.

    Args:
        raw: what the model takes, by input name, `(rows,)` each.
        targets: class numbers or values, `(rows,)`.
        weight: `(rows,)`, or None.
        rows: positions in the source, from 0, `(rows,)`.
        part: of the split.
        is_seen: by some of several folds, whose models the kept one is made of.
    """

    raw: Raw
    targets: np.ndarray
    weight: np.ndarray | None
    rows: np.ndarray
    part: str = "test"
    is_seen: bool = False

    @classmethod
    def of(
        cls, table: Table, schema: Schema, fits: Sequence[Parts], *, seed: int = 0
    ) -> "HeldOut":
        """At most 10,000 test rows, or validation rows where there are none.

        Args:
            table: with its columns, so before it is released.
            fits: the parts of each fold; those of the first are taken.
        """
        part = "test" if len(fits[0].test) else "validation"
        rows = np.asarray(getattr(fits[0], part))
        is_seen = any(not np.array_equal(getattr(f, part), rows) for f in fits[1:])
        if table.weight is not None:
            rows = rows[table.weight[rows] > 0]
        if len(rows) > MAX_ROWS:
            random = np.random.default_rng(seed)
            rows = np.sort(random.choice(rows, MAX_ROWS, replace=False))
        assert table.target is not None, "a run has a target"
        weight = None if table.weight is None else np.asarray(table.weight[rows])
        targets = np.asarray(table.target[rows])
        return cls(table.raw(schema, rows), targets, weight, rows, part, is_seen)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> "HeldOut":
        """Some of them, by their place here."""
        return HeldOut(
            {name: values[rows] for name, values in self.raw.items()},
            self.targets[rows],
            None if self.weight is None else self.weight[rows],
            self.rows[rows],
            self.part,
            self.is_seen,
        )

    def drawn(self, num_rows: int, *, seed: int = 0) -> "HeldOut":
        """At most `num_rows` of them, at random, in their order."""
        if len(self) <= num_rows:
            return self
        random = np.random.default_rng(seed)
        return self.take(np.sort(random.choice(len(self), num_rows, replace=False)))


def write_background(path: Path, held_out: HeldOut, schema: Schema) -> None:
    """Raw rows that `explain` compares with later: Parquet, by column name."""
    rows = held_out.drawn(BACKGROUND_ROWS)
    arrays = {
        column.name: pa.array(
            rows.raw[column.input],
            pa.float32() if column.dtype == "float32" else pa.string(),
            from_pandas=False,
        )
        for column in schema.features
    }
    with atomic(path) as temporary:
        pq.write_table(pa.table(arrays), temporary)


def read_background(path: Path, schema: Schema) -> Raw:
    """What `write_background` wrote, by input name; RunError when it is damaged."""
    try:
        table = pq.read_table(path)
        return {
            column.input: table.column(column.name).to_numpy()
            for column in schema.features
        }
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RunError(f"Cannot read the background rows {path}: {error}") from error
