"""What a run keeps about its model: `explanation.json`, made within a time."""

import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerastrain.explaining.cells import Cells
from kerastrain.explaining.dependence import NUM_POINTS, dependence
from kerastrain.explaining.importance import importance
from kerastrain.explaining.mistakes import are_wrong, expected, losses, worst
from kerastrain.explaining.predictor import Answers, Predictor, feed_of
from kerastrain.explaining.sample import HeldOut
from kerastrain.explaining.shapley import num_asked, shapley
from kerastrain.explaining.slices import slices
from kerastrain.schema import Column, Schema, Target

__all__ = ["explain_run"]

FIRST_ROWS = 256  # trace the model, then tell how fast it is
MAX_IMPORTANCE_ROWS, LEAST_IMPORTANCE_ROWS = 2_000, 200
MAX_REPEATS = 5
DRAWS, SCORE_S = (8, 30), 0.003  # of a metric of 2,000 rows
MAX_SCORED_CELLS = 500_000
NUM_DEPENDENCE, MAX_DEPENDENCE_ROWS = 6, 200
MAX_SHAPLEY_ROWS, LEAST_SHAPLEY_ROWS = 100, 20
MAX_BACKGROUND, LEAST_BACKGROUND = 16, 4
NUM_SHAPLEY_COLUMNS = 10
LEAST_TOP = 4
# Shares of the time that is left, in this order, in which the model is asked. Scoring
# the answers and mixing the rows takes about as long again for a fast model.
ERRORS, IMPORTANCE, DEPENDENCE, SHAPLEY = 0.15, 0.25, 0.3, 0.5


def explain_run(
    model: keras.Model,
    held_out: HeldOut,
    schema: Schema,
    *,
    seed: int = 0,
    seconds: float = 20.0,
) -> dict[str, Any]:
    """Importance, contributions, dependence, worst errors and weak slices, as JSON.

    Args:
        model: from raw columns to the decision, of any learner.
        held_out: rows that it was not trained on.
        seconds: all of it together, but for the one call that traces the model: a
            slow model is asked about fewer rows.

    Returns:
        `part`, `is_seen`, `num_rows`, `importance`, `contributions` (or null with a
        reason in `no_contributions`), `dependence`, `worst`, `slices`; empty without
        rows.
    """
    if not len(held_out) or schema.target is None or not schema.features:
        return {}
    study = _Study(model, held_out, schema, schema.target, seed, seconds)
    rows, answers = study.asked_once()
    loss = losses(schema.target, rows.targets, answers)
    found = study.importance()
    top = _top(found["columns"])
    aside = {
        "expected": expected(schema.target, answers),
        "wrong": are_wrong(schema.target, rows.targets, answers),
    }
    return {
        "part": held_out.part,
        "is_seen": held_out.is_seen,
        "num_rows": len(rows),
        "importance": found,
        "dependence": study.dependence(top),
        **study.contributions(),
        "worst": worst(rows, schema, answers, loss, top),
        "slices": slices(rows, schema, loss, top=top[:2], **aside),
    }


def _top(columns: list[dict[str, Any]]) -> list[str]:
    """Names of the columns that matter, and at least of the first ones."""
    return [
        column["name"]
        for place, column in enumerate(columns)
        if column["matters"] or (place < LEAST_TOP and (column["loss"] or 0.0) > 0)
    ]


class _Study:
    """One model on its rows, with a clock.

    Args:
        held_out: at least one row.
        seconds: from the first timed call on.
    """

    def __init__(
        self,
        model: keras.Model,
        held_out: HeldOut,
        schema: Schema,
        target: Target,
        seed: int,
        seconds: float,
    ):
        self.held_out, self.schema, self.target = held_out, schema, target
        self.seed, self.seconds = seed, seconds
        self.predictor = Predictor(model, target.task)
        first = feed_of(held_out.drawn(FIRST_ROWS, seed=seed).raw, schema)
        self.predictor.values(first)
        self.started_s = time.monotonic()
        self.predictor.values(first)

    def _affordable(self, share: float) -> int:
        """Rows that may be asked about in a share of the time that is left."""
        left_s = self.seconds - (time.monotonic() - self.started_s)
        return int(max(left_s, 0.0) * share * self.predictor.rows_per_s)

    def asked_once(self) -> tuple[HeldOut, Answers]:
        """The rows that errors and slices are looked for in."""
        most = max(FIRST_ROWS, self._affordable(ERRORS))
        rows = self.held_out.drawn(most, seed=self.seed)
        return rows, self.predictor.answers(feed_of(rows.raw, self.schema))

    def importance(self) -> dict[str, Any]:
        num_columns = len(self.schema.features)
        each = self._affordable(IMPORTANCE) // num_columns
        # Of many classes the metric takes longer than the model.
        scored = MAX_SCORED_CELLS // (len(self.target.labels) or 1)
        num_rows = min(each // 2, scored, MAX_IMPORTANCE_ROWS)
        num_rows = max(num_rows, LEAST_IMPORTANCE_ROWS)
        rows = self.held_out.drawn(num_rows, seed=self.seed)
        left_s = self.seconds - (time.monotonic() - self.started_s)
        return importance(
            self.predictor,
            rows,
            self.schema,
            repeats=int(np.clip(each // len(rows), 2, MAX_REPEATS)),
            draws=int(np.clip(left_s * IMPORTANCE / num_columns / SCORE_S, *DRAWS)),
            seed=self.seed,
            until_s=time.monotonic() + left_s * 2.5 * IMPORTANCE,
        )

    def dependence(self, top: list[str]) -> list[dict[str, Any]]:
        """Of the columns that matter most, as many as there is time for.

        Free text has no line: hardly two rows have the same.
        """
        found = []
        top = [name for name in top if self.schema[name].type != "text"]
        for name in top[:NUM_DEPENDENCE]:
            each = self._affordable(DEPENDENCE) // (NUM_POINTS * NUM_DEPENDENCE)
            if each < 1:
                break
            rows = self.held_out.drawn(min(each, MAX_DEPENDENCE_ROWS), seed=self.seed)
            column = self.schema[name]
            found.append(dependence(self.predictor, rows, self.schema, column))
        return found

    def contributions(self) -> dict[str, Any]:
        """Shapley values of a sample of rows, of the columns with the largest."""
        num_columns, asked = len(self.schema.features), self._affordable(SHAPLEY)
        size = asked // num_asked(num_columns, 1) // MAX_SHAPLEY_ROWS
        num_background = int(np.clip(size, LEAST_BACKGROUND, MAX_BACKGROUND))
        num_rows = asked // num_asked(num_columns, num_background)
        if num_rows < LEAST_SHAPLEY_ROWS:
            reason = f"{num_columns:,} columns are too many for the time that was left."
            return {"contributions": None, "no_contributions": reason}
        rows = self.held_out.drawn(min(num_rows, MAX_SHAPLEY_ROWS), seed=self.seed + 1)
        others = self.held_out.drawn(num_background, seed=self.seed + 2)
        values, base = shapley(
            self.predictor,
            feed_of(rows.raw, self.schema),
            feed_of(others.raw, self.schema),
            seed=self.seed,
        )
        return {"contributions": self._summary(rows.raw, values, base)}

    def _summary(
        self, raw: Mapping[str, np.ndarray], values: np.ndarray, base: np.ndarray
    ) -> dict[str, Any]:
        """Mean size, and the points of each row, about one output for each row."""
        output = np.full(len(values), values.shape[2] - 1)
        if self.target.task == "multiclass":  # the class that the row is given
            output = (values.sum(axis=1) + base).argmax(axis=1)
        one = values[np.arange(len(values)), :, output]
        sizes = np.abs(one).mean(axis=0)
        order = np.argsort(-sizes, kind="stable")[:NUM_SHAPLEY_COLUMNS]
        features = self.schema.features
        return {
            "method": "sampled",
            "num_rows": len(values),
            "columns": [
                {
                    "name": features[j].name,
                    "size": sizes[j],
                    "values": one[:, j],
                    **_ranks(features[j], raw[features[j].input]),
                }
                for j in order
            ],
        }


def _ranks(column: Column, values: np.ndarray) -> dict[str, Any]:
    """The cells, and where an ordered one stands among them, from 0 to 1."""
    cells = Cells(column, values)
    if not cells.is_ordered:
        return {"cells": cells.texts, "ranks": None}
    known = np.sort(cells.numbers[~np.isnan(cells.numbers)])
    places = np.searchsorted(known, cells.numbers) / max(len(known) - 1, 1)
    ranks = np.where(np.isnan(cells.numbers), np.nan, np.minimum(places, 1.0))
    return {"cells": cells.texts, "ranks": ranks}
