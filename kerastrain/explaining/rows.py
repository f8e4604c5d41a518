"""What each column of given rows adds to what the model says about them."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf

from kerastrain.errors import ConfigError, suggest
from kerastrain.events import note
from kerastrain.explaining.cells import cell_text
from kerastrain.explaining.predictor import Answers, Feed, Predictor, feed_of, take
from kerastrain.explaining.sample import read_background
from kerastrain.explaining.shapley import shapley
from kerastrain.schema import Column, Schema, Target
from kerastrain.store import RunFolder

__all__ = ["explain_rows"]

Batch = tuple[pa.ChunkedArray | None, Feed]


def explain_rows(
    model: keras.Model,
    batches: Iterable[Batch],
    folder: RunFolder,
    schema: Schema,
    *,
    label: str | None = None,
    samples: int = 32,
    max_rows: int = 1_000,
    id_column: str | None = None,
) -> pd.DataFrame:
    """Contributions of the columns to each row; see `Run.explain` for what comes.

    Args:
        batches: ids, or None, and the rows as the model takes them.
        folder: with the rows to compare with; of a run that kept none, the rows that
            are explained are compared with each other.
        label: the class that is explained; by default that of the row, and of two
            classes the positive one.
        samples: background rows, each with one pair of orders of the columns.
        max_rows: what comes after is left out, with a note.
        id_column: the name of the ids.

    Raises:
        ConfigError: `label` is no class of the target.
    """
    target = schema.target
    assert target is not None, "a run has one"
    number = _class_number(target, label)
    predictor = Predictor(model, target.task)
    ids, feed = _first(batches, max_rows)
    others = _background(folder, schema, feed, samples)
    contributions = shapley(predictor, feed, others)
    frame = _frame(feed, predictor.answers(feed), contributions, schema, number)
    if ids is not None:
        if id_column in frame.columns:
            raise ConfigError(
                f"The id column '{id_column}' has the name of a column of explanations."
                " Rename it in the data."
            )
        frame.insert(0, str(id_column), ids.to_pandas())
    return frame


def _first(batches: Iterable[Batch], max_rows: int) -> Batch:
    """The first rows in one piece."""
    parts: list[Feed] = []
    ids, count = [], 0
    for some_ids, feed in batches:
        kept = min(_num_rows(feed), max_rows - count)
        parts.append({name: values[:kept] for name, values in feed.items()})
        ids.append(None if some_ids is None else some_ids.slice(0, kept))
        count += kept
        if kept < _num_rows(feed) or count == max_rows:
            note(
                "rows_explained",
                f"The first {max_rows:,} rows are explained: --rows or max_rows takes "
                "more, and each takes as long as hundreds of predictions.",
                rows=max_rows,
            )
            break
    if not count:
        raise ConfigError("There are no rows to explain: the data are empty.")
    names = {name: tf.concat([p[name] for p in parts], 0) for name in parts[0]}
    known = [one for one in ids if one is not None]
    return (pa.chunked_array(known) if known else None), names


def _num_rows(feed: Feed) -> int:
    return len(next(iter(feed.values())))


def _background(folder: RunFolder, schema: Schema, feed: Feed, samples: int) -> Feed:
    """Evenly spaced rows of what the run kept."""
    if folder.background.is_file():
        feed = feed_of(read_background(folder.background, schema), schema)
    else:
        note(
            "no_background",
            f"{folder.path} keeps no rows to compare with, as runs of earlier versions "
            "do not: the rows are compared with each other.",
        )
    count = min(max(samples, 1), _num_rows(feed))
    return take(feed, np.linspace(0, _num_rows(feed) - 1, count).astype(int))


def _frame(
    feed: Feed,
    answers: Answers,
    contributions: tuple[np.ndarray, np.ndarray],
    schema: Schema,
    number: int | None,
) -> pd.DataFrame:
    """One row per row, about one output each: class `number`, or the row's own."""
    labels, (values, base) = _labels(schema), contributions
    rows = np.arange(len(values))
    output = np.full(len(rows), -1 if number is None else number)
    columns: dict[str, Any] = {"prediction": answers.values[:, 0]}
    if answers.labels is not None:
        columns["prediction"] = answers.labels
        if number is None:
            output = np.array([labels.index(text) for text in answers.labels], int)
        columns["explained"] = [labels[k] for k in output]
    columns |= {"output": answers.values[rows, output], "base": base[output]}
    for j, column in enumerate(schema.features):
        columns[f"cell_{column.name}"] = _cells(column, feed[column.input].numpy())
        columns[f"contribution_{column.name}"] = values[rows, j, output]
    return pd.DataFrame(columns)


def _labels(schema: Schema) -> list[str]:
    return schema.target.labels if schema.target else []


def _cells(column: Column, values: np.ndarray) -> Any:
    if column.dtype == "float32":
        return values
    texts = [cell_text(column, value) for value in values]
    return pd.Series(texts, dtype="str")


def _class_number(target: Target, label: str | None) -> int | None:
    """None where it goes by the row."""
    if label is not None and label not in target.labels:
        named = ", ".join(target.labels[:12]) or "none, it is a regression"
        raise ConfigError(
            f"The target '{target.name}' has no class {label!r}. "
            f"{suggest(label, target.labels)}Classes: {named}."
        )
    if label is not None:
        return target.labels.index(label)
    return None if target.task == "multiclass" else -1
