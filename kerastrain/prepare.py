"""Rows of every part as encoded arrays, with what was learnt from the train rows."""

from dataclasses import dataclass

import numpy as np

from kerastrain.arrays import ArrayStore, Chosen, pieces
from kerastrain.config import RunConfig
from kerastrain.errors import DataError
from kerastrain.features import Front, NumberStatistics
from kerastrain.imbalance import Balance, balance_of
from kerastrain.ingest import Table
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows, encode
from kerastrain.resampling import counts_of
from kerastrain.schema import Schema
from kerastrain.split import Parts

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What every learner of a run shares.

    Args:
        front: raw columns to clean matrices.
        statistics: of the number matrix over the train rows.
        objective: the task, with the mean and spread of a target that is a number.
        balance: what is done about classes of very different size.
        train, validation, test: encoded rows with what each counts in training.
        weight: the user's row weights `(all rows,)`, which scores go by; or None.
        num_dropped: rows in no part.
    """

    front: Front
    statistics: NumberStatistics
    objective: Objective
    balance: Balance
    train: Rows
    validation: Rows
    test: Rows
    weight: np.ndarray | None
    num_dropped: int = 0

    def weight_of(self, rows: Rows) -> np.ndarray | None:
        """Row weights for scores. Class weights change training, never the scores."""
        return None if self.weight is None else self.weight[rows.index]


def prepare(
    table: Table, schema: Schema, parts: Parts, store: ArrayStore, config: RunConfig
) -> Prepared:
    """Encode all rows; every number that is learnt comes from the train rows alone."""
    assert table.target is not None and schema.target is not None
    values = {
        name: texts.train_values(parts.train) for name, texts in table.texts.items()
    }
    front = Front(schema, values, config.features)
    arrays = encode(front, table, store)
    none = np.zeros((table.num_rows, 0), "float32")
    statistics = NumberStatistics.of(arrays.get("numbers", none), parts.train)
    plain = [_plain(arrays, table, rows) for rows in (parts.train, parts.validation)]
    balance = balance_of(config, schema.target, statistics, *plain)
    task = Objective.of(
        schema.target,
        balance.objective(config.objective),
        Chosen(table.target, _counting(table, parts.train)),
    )
    task = balance.corrected(task)
    weight = _training_weight(table, task, parts.train, store)
    train, validation, test = (
        Rows(arrays, table.target, weight, index)
        for index in (parts.train, parts.validation, parts.test)
    )
    return Prepared(
        front,
        statistics,
        task,
        balance,
        train,
        validation,
        test,
        table.weight,
        parts.num_dropped,
    )


def _counting(table: Table, rows: np.ndarray) -> np.ndarray:
    """Rows of weight above 0, which alone are learnt from; all where none has any."""
    if table.weight is None:
        return rows
    counting = rows[table.weight[rows] > 0]
    return counting if len(counting) else rows


def _plain(arrays: dict[str, np.ndarray], table: Table, index: np.ndarray) -> Rows:
    """Rows with the user's weights, which take no memory where there are none."""
    weight = table.weight
    if weight is None:
        weight = np.broadcast_to(np.float32(1), (table.num_rows,))
    assert table.target is not None
    return Rows(arrays, table.target, weight, index)


def _training_weight(
    table: Table, task: Objective, train: np.ndarray, store: ArrayStore
) -> np.ndarray:
    """User's weight times class weight, float32 `(rows,)`.

    Both have mean 1 over the train rows; rows of weight 0 count as no rows, in this
    mean as in the loss.

    Raises:
        DataError: no train row has a weight.
    """
    factors = _class_factors(table, task, train)
    if table.weight is None and factors is None:
        return np.broadcast_to(np.float32(1), (table.num_rows,))  # takes no memory
    weight = store.empty((table.num_rows,), "float32")
    scale = 1.0 if table.weight is None else 1 / _mean_positive(table.weight, train)
    for piece in pieces(table.num_rows, 1 << 20):
        part = np.full(piece.stop - piece.start, scale)
        if table.weight is not None:
            part *= table.weight[piece]
        if factors is not None and table.target is not None:
            part *= factors[table.target[piece]]
        weight[piece] = part
    return weight


def _class_factors(
    table: Table, task: Objective, train: np.ndarray
) -> np.ndarray | None:
    """What the class of a row counts, `(classes,)`; None where all count alike."""
    if not task.labels or table.target is None:
        return None
    counts = counts_of(_plain({}, table, train), len(task.labels))
    factors = task.weights_of(counts)
    return None if (factors == 1).all() else factors


def _mean_positive(weight: np.ndarray, train: np.ndarray) -> float:
    total, count = 0.0, 0
    for values in Chosen(weight, train):
        total += float(values[values > 0].sum(dtype="float64"))
        count += int((values > 0).sum())
    if not count:
        raise DataError(
            "Every train row has weight 0: there is nothing to learn from. Give "
            "more rows a weight, or draw another split (--set split.seed=1)."
        )
    return total / count
