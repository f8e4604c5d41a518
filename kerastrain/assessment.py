"""How good a learner is: what `metrics.json` holds. Looks at the test rows once."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kerastrain import evaluation
from kerastrain.baselines import Baselines, EncodedTable, fit_baselines
from kerastrain.curves import curves
from kerastrain.decision import Decision
from kerastrain.events import note
from kerastrain.learner import Learner
from kerastrain.pipeline import Rows
from kerastrain.prepare import Prepared
from kerastrain.schema import Target
from kerastrain.store import atomic

__all__ = ["Tested", "about", "assess", "mean_and_spread", "validated"]

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Tested:
    """What was predicted for test rows, beside the truth and the baselines.

    Args:
        index: numbers of the rows in the data, int64.
        fold: whose model predicted each row, from 1; None without folds.
        predicted: class that each row is given, by its number; None in a regression.
        measured: what came of intervals and costs.

    Shapes: `y`, `weight`, `index`, `fold` and `predicted` are `(rows,)`; predictions as
    `Learner.predict` gives them.
    """

    y: np.ndarray
    ours: np.ndarray
    baselines: dict[str, np.ndarray]
    weight: np.ndarray | None
    description: str
    index: np.ndarray
    fold: np.ndarray | None = None
    predicted: np.ndarray | None = None
    measured: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, learner: Learner, data: Prepared, target: Target, seed: int
    ) -> "Tested":
        rows = _judged(data.test, target, "test")
        baselines = _baselines(data, rows, target, seed)
        ours, weight = learner.predict(rows), data.weight_of(rows)
        return cls(
            rows.targets,
            ours,
            dict(baselines.predictions),
            weight,
            baselines.description,
            rows.index,
            predicted=learner.decision.classes(ours),
            measured=learner.decision.measured(ours, rows.targets, weight),
        )

    def scores(self, target: Target) -> Scores:
        return evaluation.score(
            target.task,
            self.y,
            self.ours,
            weight=self.weight,
            predicted=self.predicted,
        )

    @classmethod
    def pooled(cls, folds: Sequence["Tested"]) -> "Tested":
        """The test rows of all folds, one below the other."""
        weights = [one.weight for one in folds if one.weight is not None]
        return cls(
            np.concatenate([one.y for one in folds]),
            np.concatenate([one.ours for one in folds]),
            {
                name: np.concatenate([one.baselines[name] for one in folds])
                for name in folds[0].baselines
            },
            np.concatenate(weights) if weights else None,
            f"One for each fold; of the first: {folds[0].description}",
            np.concatenate([one.index for one in folds]),
            np.repeat(np.arange(1, len(folds) + 1), [len(one.y) for one in folds]),
            _together([one.predicted for one in folds]),
            _mean_of([one.measured for one in folds]),
        )

    @classmethod
    def averaged(cls, folds: Sequence["Tested"], decision: Decision) -> "Tested":
        """The same rows predicted by all folds: the mean of what they say.

        Args:
            decision: by which it is decided.
        """
        first = folds[0]
        ours = np.mean([one.ours for one in folds], axis=0)
        return replace(
            first,
            ours=ours,
            predicted=decision.classes(ours),
            measured=decision.measured(ours, first.y, first.weight),
            baselines={
                name: np.mean([one.baselines[name] for one in folds], axis=0)
                for name in folds[0].baselines
            },
            description=f"The mean of one for each fold; of the first: "
            f"{folds[0].description}",
        )

    def save(self, path: Path, target: Target) -> None:
        """Write a line per row: `row` (its number in the data, from 0), `target`,
        `prediction`, `probability_<label>` of each class, and where there are any
        `weight` and `fold`."""
        labels, y, predicted = target.labels, self.y, self.predicted
        columns: dict[str, Any] = {
            "row": self.index,
            "target": _named(y, labels) if labels else y,
            "prediction": self.ours,
        }
        if labels:
            classes = self.ours.argmax(axis=1) if predicted is None else predicted
            columns["prediction"] = _named(classes, labels)
        for place, label in enumerate(labels):
            columns[f"probability_{label}"] = self.ours[:, place]
        others = {"weight": self.weight, "fold": self.fold}
        columns |= {k: values for k, values in others.items() if values is not None}
        with atomic(path) as temporary:
            pq.write_table(pa.table(columns), temporary)

    def judged(self, target: Target, seed: int) -> dict[str, Any]:
        """Scores with intervals, the baselines' scores, the verdict, the curves."""
        task, y, weight = target.task, self.y, self.weight
        linear = self.baselines["linear"]
        comparison = evaluation.compare(
            task, y, self.ours, linear, weight=weight, seed=seed
        )
        sentence = evaluation.verdict(task, comparison, baseline="linear")
        ours: dict[str, Any] = {"predicted": self.predicted, "seed": seed}
        return {
            "test": evaluation.evaluate(task, y, self.ours, weight=weight, **ours),
            "baselines": {
                name: evaluation.score(task, y, theirs, weight=weight)
                for name, theirs in self.baselines.items()
            },
            "verdict": comparison
            | {"sentence": sentence, "baseline": "linear", "about": self.description},
            "curves": curves(task, y, self.ours, target.labels, **ours),
            **self.measured,
        }


def _named(classes: np.ndarray, labels: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(classes, pa.int32()), labels)


def _together(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


def _mean_of(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each number in mappings of the same shape."""
    first = parts[0]
    return {
        key: _mean_of([part[key] for part in parts])
        if isinstance(value, dict)
        else float(np.mean([part[key] for part in parts]))
        for key, value in first.items()
        if all(key in part for part in parts)
    }


def assess(
    learner: Learner,
    data: Prepared,
    target: Target,
    *,
    seed: int,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Scores on the validation and test rows, beside the baselines, with a verdict.

    Args:
        keep: where to write what was predicted for the test rows; see `Tested.save`.
    """
    result = about(data, target) | {
        "best_epoch": getattr(learner, "best_epoch", None),
        "validation": validated(learner, data, target),
        **learner.decision.described(),
    }
    if len(data.test):
        tested = Tested.of(learner, data, target, seed)
        if keep is not None:
            tested.save(keep, target)
        result |= tested.judged(target, seed)
    return result


def about(data: Prepared, target: Target) -> dict[str, Any]:
    """What the scores are of."""
    task = target.task
    found: dict[str, Any] = {
        "task": task,
        "target": target.name,
        "labels": target.labels,
        "positive_label": target.labels[-1] if task == "binary" else None,
        "primary": evaluation.primary(task),
        "num_rows": {
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
            "dropped": data.num_dropped,
        },
    }
    if data.balance.choice:
        found["imbalance"] = data.balance.choice
    return found


def validated(learner: Learner, data: Prepared, target: Target) -> Scores:
    """Every metric on the validation rows."""
    rows = _judged(data.validation, target, "validation")
    return learner.validated(rows, weight=data.weight_of(rows))


def mean_and_spread(folds: Sequence[Scores]) -> dict[str, Scores]:
    """Mean and standard deviation of each metric over the folds that have it."""
    found: dict[str, Scores] = {}
    for name in folds[0]:
        values = [scores[name] for scores in folds]
        known = np.array([value for value in values if value is not None])
        found[name] = {
            "value": float(known.mean()) if len(known) else None,
            "spread": float(known.std(ddof=1)) if len(known) > 1 else None,
        }
    return found


def _judged(rows: Rows, target: Target, part: str) -> Rows:
    """Those that are scored: all, unless there are millions."""
    kept = rows.at_most(evaluation.most_rows(max(1, len(target.labels))))
    if len(kept) < len(rows):
        note(
            "rows_scored",
            f"{len(kept):,} of {len(rows):,} {part} rows are scored, evenly spaced: "
            "more would not change the digits that are shown.",
            part=part,
            rows=len(kept),
        )
    return kept


def _baselines(data: Prepared, tested: Rows, target: Target, seed: int) -> Baselines:
    arrays, num_rows = data.train.inputs, len(data.train.target)
    none = np.broadcast_to(np.float32(0), (num_rows, 0))
    table = EncodedTable(
        arrays.get("numbers", none),
        arrays.get("codes", none.astype("int32")),
        data.train.target,
        data.weight,
    )
    return fit_baselines(
        target.task,
        table,
        train_rows=data.train.index,
        validation_rows=data.validation.index,
        test_rows=tested.index,
        num_classes=len(target.labels),
        seed=seed,
    )
