"""Rows of every part as encoded arrays, with what was learnt from the train rows."""

from dataclasses import dataclass

import numpy as np

from kerastrain.config import RunConfig
from kerastrain.errors import DataError
from kerastrain.features import Front, NumberStatistics
from kerastrain.ingest import ArrayStore, Table
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows, encode
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
        train, validation, test: encoded rows with what each counts in training.
        weight: the user's row weights `(all rows,)`, which scores go by; or None.
        num_dropped: rows in no part.
    """

    front: Front
    statistics: NumberStatistics
    objective: Objective
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
    task = Objective.of(schema.target, config.objective, table.target[parts.train])
    weight = _training_weight(table, task, parts.train)
    train, validation, test = (
        Rows(arrays, table.target, weight, index)
        for index in (parts.train, parts.validation, parts.test)
    )
    statistics = NumberStatistics.of(arrays.get("numbers", none), parts.train)
    return Prepared(
        front,
        statistics,
        task,
        train,
        validation,
        test,
        table.weight,
        parts.num_dropped,
    )


def _training_weight(table: Table, task: Objective, train: np.ndarray) -> np.ndarray:
    """User's weight times class weight, float32 `(rows,)`.

    Both have mean 1 over the train rows; rows of weight 0 count as no rows, in this
    mean as in the loss.

    Raises:
        DataError: no train row has a weight.
    """
    weight = np.ones(table.num_rows, "float32")
    if table.weight is not None:
        positive = table.weight[train][table.weight[train] > 0]
        if not len(positive):
            raise DataError(
                "Every train row has weight 0: there is nothing to learn from. Give "
                "more rows a weight, or draw another split (--set split.seed=1)."
            )
        weight = table.weight / positive.mean(dtype="float64")
    if task.labels and table.target is not None:
        weight = weight * task.class_weights(table.target[train])[table.target]
    return weight.astype("float32")
