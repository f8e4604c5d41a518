"""How wrong the model is about each row, and about which rows most."""

from typing import Any

import numpy as np

from kerastrain.explaining.cells import cell_text
from kerastrain.explaining.predictor import Answers
from kerastrain.explaining.sample import HeldOut
from kerastrain.schema import Schema, Target

__all__ = ["are_wrong", "expected", "losses", "worst"]

LEAST = 1e-6  # probability: below it one row would outweigh all others
NUM_WORST = 20
MAX_COLUMNS = 30


def losses(target: Target, targets: np.ndarray, answers: Answers) -> np.ndarray:
    """`(rows,)`: log loss of classes; of a regression the distance to the truth."""
    if target.task == "regression":
        return np.abs(answers.values[:, 0] - targets)
    own = answers.values[np.arange(len(targets)), targets.astype(int)]
    return -np.log(np.clip(own, LEAST, 1.0))


def expected(target: Target, answers: Answers) -> np.ndarray | None:
    """`(rows,)`, the mean loss if the probabilities are right; None of numbers."""
    if target.task == "regression":
        return None
    likely = np.clip(answers.values, LEAST, 1.0)
    return -(likely * np.log(likely)).sum(axis=1)


def are_wrong(
    target: Target, targets: np.ndarray, answers: Answers
) -> np.ndarray | None:
    """bool `(rows,)`, whether the label is another than the truth; None of numbers."""
    if answers.labels is None:
        return None
    return np.array(target.labels, object)[targets.astype(int)] != answers.labels


def worst(
    rows: HeldOut, schema: Schema, answers: Answers, loss: np.ndarray, top: list[str]
) -> list[dict[str, Any]]:
    """The rows with the largest loss: `row` (from 0), `true`, `predicted`, `loss`, the
    `probability` of the true class, `cells`.

    Args:
        top: names of columns, whose cells come first.
    """
    target = schema.target
    assert target is not None, "held-out rows have one"
    names = [*top, *(c.name for c in schema.features if c.name not in top)]
    columns = [schema[name] for name in names[:MAX_COLUMNS]]
    found = []
    for i in np.argsort(-loss, kind="stable")[:NUM_WORST]:
        cells = {c.name: cell_text(c, rows.raw[c.input][i]) for c in columns}
        item: dict[str, Any] = {"row": int(rows.rows[i]), "loss": float(loss[i])}
        if answers.labels is None:
            item |= {"true": rows.targets[i], "predicted": answers.values[i, 0]}
        else:
            number = int(rows.targets[i])
            item |= {"true": target.labels[number], "predicted": answers.labels[i]}
            item["probability"] = answers.values[i, number]
        found.append(item | {"cells": cells})
    return found
