"""How good a learner is: what `metrics.json` holds. Looks at the test rows once."""

from typing import Any

import numpy as np

from kerastrain import evaluation
from kerastrain.baselines import Baselines, EncodedTable, fit_baselines
from kerastrain.curves import curves
from kerastrain.learner import Learner
from kerastrain.prepare import Prepared
from kerastrain.schema import Target

__all__ = ["assess"]


def assess(
    learner: Learner, data: Prepared, target: Target, *, seed: int
) -> dict[str, Any]:
    """Scores on the validation and test rows, beside the baselines, with a verdict."""
    task = target.task
    result: dict[str, Any] = {
        "task": task,
        "target": target.name,
        "labels": target.labels,
        "positive_label": target.labels[-1] if task == "binary" else None,
        "primary": evaluation.primary(task),
        "best_epoch": getattr(learner, "best_epoch", None),
        "num_rows": {
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
            "dropped": data.num_dropped,
        },
        "validation": learner.evaluate(
            data.validation, weight=data.weight_of(data.validation)
        ),
    }
    if len(data.test):
        result |= _on_test(learner, data, target, seed)
    return result


def _on_test(
    learner: Learner, data: Prepared, target: Target, seed: int
) -> dict[str, Any]:
    task, y = target.task, data.test.targets
    weight = data.weight_of(data.test)
    ours = learner.predict(data.test)
    baselines = _baselines(data, target, seed)
    linear = baselines.predictions["linear"]
    comparison = evaluation.compare(task, y, ours, linear, weight=weight, seed=seed)
    sentence = evaluation.verdict(task, comparison, baseline="linear")
    return {
        "test": evaluation.evaluate(task, y, ours, weight=weight, seed=seed),
        "baselines": {
            name: evaluation.score(task, y, theirs, weight=weight)
            for name, theirs in baselines.predictions.items()
        },
        "verdict": comparison
        | {
            "sentence": sentence,
            "baseline": "linear",
            "about": baselines.description,
        },
        "curves": curves(task, y, ours, target.labels, seed=seed),
    }


def _baselines(data: Prepared, target: Target, seed: int) -> Baselines:
    arrays, num_rows = data.train.inputs, len(data.train.target)
    table = EncodedTable(
        arrays.get("numbers", np.zeros((num_rows, 0), "float32")),
        arrays.get("codes", np.zeros((num_rows, 0), "int32")),
        data.train.target,
        data.weight,
    )
    return fit_baselines(
        target.task,
        table,
        train_rows=data.train.index,
        validation_rows=data.validation.index,
        test_rows=data.test.index,
        num_classes=len(target.labels),
        seed=seed,
    )
