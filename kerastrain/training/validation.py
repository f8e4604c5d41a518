"""What the rows that are not trained on say after each epoch."""

import math
import time
from typing import Any

import keras
import numpy as np

from kerastrain.arrays import pieces
from kerastrain.engine import Engine
from kerastrain.evaluation import METRICS
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows

__all__ = ["Validate"]

# Metrics that are scored after each epoch: those that cost little at any size.
_WATCHED = {
    "binary": ("roc_auc", "accuracy"),
    "multiclass": ("accuracy",),
    "regression": ("rmse", "mae", "r2"),
}


class Validate(keras.callbacks.Callback):
    """Adds `val_loss`, validation metrics, the rate and the time to an epoch's logs.

    First in the list: the callbacks behind it see what it adds.

    Args:
        rows: validation rows as the engine takes them, targets encoded.
        targets: the same targets as metrics take them.
        weight: of each of these rows in metrics, where class weights do not count.
        monitor: a metric to score too, such as `val_f1`.

    Attributes:
        odd_rows: whose loss is not finite although the outputs are.
    """

    remembered = ()

    def __init__(
        self,
        engine: Engine,
        rows: Rows,
        objective: Objective,
        targets: np.ndarray,
        *,
        weight: np.ndarray | None = None,
        monitor: str = "",
    ):
        super().__init__()
        self.engine = engine
        self.rows = rows
        self.odd_rows = np.zeros(0, "int64")
        self.objective = objective
        self.targets = targets
        self.weight = weight if weight is not None and weight.any() else None
        asked = monitor.removeprefix("val_")
        known = METRICS[objective.task]
        self.names = [*_WATCHED[objective.task], *([asked] if asked in known else [])]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start_s = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        outputs = self.engine.outputs_of(self.rows)
        logs["val_loss"] = self._loss(outputs)
        if np.isfinite(outputs).all():
            scores = self._scores(self.objective.outputs(outputs))
            logs.update({f"val_{name}": value for name, value in scores.items()})
        rate = keras.ops.convert_to_numpy(self.engine.optimizer.learning_rate)
        logs["learning_rate"] = float(rate)
        logs["epoch_s"] = time.perf_counter() - self._start_s

    def _loss(self, outputs: np.ndarray) -> float:
        """Mean over the rows by their weights, or over all where none has a weight.

        Of corrected logits a class weight is not part of the loss.
        """
        row_loss, weights = self.objective.honest_loss(), self.rows.weights
        if self.objective.correction is not None:
            weights = np.ones(len(weights)) if self.weight is None else self.weight
        losses = np.empty(len(self.rows))
        for piece in pieces(len(losses)):
            targets = self.rows.target[self.rows.index[piece]]
            losses[piece] = np.asarray(row_loss(targets, outputs[piece]))
        is_odd = ~np.isfinite(losses) if np.isfinite(outputs).all() else np.zeros(0)
        self.odd_rows = self.rows.index[np.flatnonzero(is_odd)]
        return float(np.average(losses, weights=weights if weights.any() else None))

    def _scores(self, prediction: np.ndarray) -> dict[str, float]:
        known = METRICS[self.objective.task]
        scores = {
            name: known[name].function(self.targets, prediction, self.weight)
            for name in self.names
        }
        return {name: value for name, value in scores.items() if math.isfinite(value)}
