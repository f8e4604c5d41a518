"""Partial dependence: what the model says on average when one column is set.

Reference: Friedman 2001, section 8.2; Goldstein et al. 2015 for the curves of rows.
"""

from collections import Counter
from typing import Any

import numpy as np
import tensorflow as tf

from kerastrain.explaining.cells import Cells
from kerastrain.explaining.predictor import Predictor, feed_of
from kerastrain.explaining.sample import HeldOut
from kerastrain.schema import Column, Schema

__all__ = ["dependence"]

NUM_POINTS = 20
MAX_CATEGORIES = 10
MAX_CLASSES = 4  # lines that can still be told apart
BAND = (0.1, 0.9)


def dependence(
    predictor: Predictor, rows: HeldOut, schema: Schema, column: Column
) -> dict[str, Any]:
    """The mean answer over the rows at values of a column, and its spread.

    Numbers and dates are set to values of rows at even ranks, categories to the most
    frequent ones, and missing cells beside where there are any.

    Returns:
        `column`, `type`, `values` (numbers, dates or texts), `lines`: a name and the
        mean at each value; of one output also `low` and `high`, between which four of
        five rows lie; `missing`, the mean of each line where the cell is missing.
    """
    cells = Cells(column, rows.raw[column.input])
    chosen = _ranks(cells) if cells.is_ordered else _frequent(cells)
    has_missing = bool(cells.is_missing.any())
    if has_missing:
        chosen = np.append(chosen, np.flatnonzero(cells.is_missing)[0])
    answers = _asked(predictor, rows, schema, column, chosen)
    lines = _lines(answers, schema)
    missing = [line["mean"][-1] for line in lines] if has_missing else None
    if has_missing:
        chosen = chosen[:-1]
        lines = [
            {k: v if k == "name" else v[:-1] for k, v in line.items()} for line in lines
        ]
    return {
        "column": column.name,
        "type": column.type,
        "values": _shown(cells, chosen),
        "lines": lines,
        "missing": missing,
    }


def _ranks(cells: Cells) -> np.ndarray:
    """Rows whose values stand at even ranks; each value once."""
    numbers = cells.numbers
    order = np.argsort(numbers, kind="stable")[: int((~np.isnan(numbers)).sum())]
    if not len(order):
        return order
    places = np.linspace(0, len(order) - 1, min(NUM_POINTS, len(order))).round()
    rows = order[places.astype(int)]
    return rows[np.unique(numbers[rows], return_index=True)[1]]


def _frequent(cells: Cells) -> np.ndarray:
    """A row of each of the most frequent texts."""
    counts = Counter(text for text in cells.texts if text != "")
    names = [name for name, _ in counts.most_common(MAX_CATEGORIES)]
    return np.array([np.flatnonzero(cells.texts == n)[0] for n in names], int)


def _asked(
    predictor: Predictor,
    rows: HeldOut,
    schema: Schema,
    column: Column,
    chosen: np.ndarray,
) -> np.ndarray:
    """`(values, rows, outputs)`."""
    feed = feed_of(rows.raw, schema)
    many = {name: tf.tile(values, [len(chosen)]) for name, values in feed.items()}
    many[column.input] = tf.repeat(tf.gather(feed[column.input], chosen), len(rows))
    answers = predictor.values(many)
    return answers.reshape(len(chosen), len(rows), -1)


def _lines(answers: np.ndarray, schema: Schema) -> list[dict[str, Any]]:
    labels = schema.target.labels if schema.target else []
    means = answers.mean(axis=1)
    if len(labels) > 2:
        largest = np.argsort(-means.mean(axis=0), kind="stable")[:MAX_CLASSES]
        return [{"name": labels[k], "mean": means[:, k]} for k in largest]
    low, high = np.quantile(answers[:, :, -1], BAND, axis=1)
    name = labels[-1] if labels else "prediction"
    return [{"name": name, "mean": means[:, -1], "low": low, "high": high}]


def _shown(cells: Cells, rows: np.ndarray) -> list[Any]:
    if not cells.is_ordered:
        return list(cells.texts[rows])
    if cells.column.type == "datetime":
        return [cells.number_text(number) for number in cells.numbers[rows]]
    return cells.numbers[rows].tolist()
