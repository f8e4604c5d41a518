"""Validation, early stopping, checkpoints, the history file and the NaN check."""

import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerastrain.arrays import pieces
from kerastrain.blocks import Blocks
from kerastrain.engine import Engine
from kerastrain.errors import ConfigError, DivergenceError
from kerastrain.evaluation import METRICS
from kerastrain.events import note
from kerastrain.objective import Objective
from kerastrain.pipeline import Rows
from kerastrain.store import atomic

__all__ = [
    "BestWeights",
    "Checkpoints",
    "EpochOrder",
    "HistoryFile",
    "StopOnNaN",
    "Validate",
]

# Metrics that are scored after each epoch: those that cost little at any size.
_WATCHED = {
    "binary": ("roc_auc", "accuracy"),
    "multiclass": ("accuracy",),
    "regression": ("rmse", "mae", "r2"),
}


class EpochOrder(keras.callbacks.Callback):
    """Tells the blocks which epoch it is, so that its order of rows is drawn."""

    def __init__(self, blocks: Blocks):
        super().__init__()
        self.blocks = blocks

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.blocks.epoch = epoch


class Validate(keras.callbacks.Callback):
    """Adds `val_loss`, validation metrics, the rate and the time to an epoch's logs.

    First in the list: the callbacks behind it see what it adds.

    Args:
        rows: validation rows as the engine takes them, targets encoded.
        targets: the same targets as metrics take them.
        weight: of each of these rows in metrics, where class weights do not count.
        monitor: a metric to score too, such as `val_f1`.
    """

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
        return float(np.average(losses, weights=weights if weights.any() else None))

    def _scores(self, prediction: np.ndarray) -> dict[str, float]:
        known = METRICS[self.objective.task]
        scores = {
            name: known[name].function(self.targets, prediction, self.weight)
            for name in self.names
        }
        return {name: value for name, value in scores.items() if math.isfinite(value)}


class StopOnNaN(keras.callbacks.Callback):
    """Ends training when a loss is NaN or infinite; such a model is worth nothing."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name in ("loss", "val_loss"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise DivergenceError(
                    f"{name} became {value} in epoch {epoch + 1}. Try a lower rate "
                    "(--set optimizer.learning_rate=1e-4) or stronger clipping "
                    "(--set optimizer.clip_norm=0.1)."
                )


class BestWeights(keras.callbacks.EarlyStopping):
    """Early stopping that always ends on the weights of the best epoch.

    Args:
        monitor: name in the logs, such as `val_loss`.
        mode: `min` or `max`.
        patience: epochs without a better value before training stops; None never.

    Raises:
        ConfigError: an epoch has no such value; Keras would go on without a best one.
    """

    def __init__(self, monitor: str, mode: str, patience: int | None):
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=patience or 10**9,
            restore_best_weights=True,
        )
        self.is_better = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.monitor not in (logs or {}):
            name = self.monitor.removeprefix("val_")
            raise ConfigError(
                f"fit.monitor: {name} is not defined on the validation rows, as AUC is "
                "not with one class. Monitor another (--set fit.monitor=loss), or give "
                "more validation rows (--set split.validation=0.3)."
            )
        before = self.best_epoch if self.best is not None else None
        super().on_epoch_end(epoch, logs)
        self.is_better = self.best_epoch == epoch and before != epoch

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        if self.stopped_epoch:
            note(
                "stopped_early",
                f"Stopped after epoch {self.stopped_epoch + 1}: {self.monitor} did not "
                f"improve for {self.patience} epochs. The weights are those of epoch "
                f"{self.best_epoch + 1}.",
                best_epoch=self.best_epoch + 1,
            )


class Checkpoints(keras.callbacks.Callback):
    """Weights on disk: those of the best epoch, and every so many epochs.

    Args:
        folder: where they lie.
        best: tells which epoch is the best so far; stands before this one.
        whole: the model whose weights are written; it shares its layers with the one
            that is fitted, and `load_weights` of a loaded run takes them.
        every: epochs between kept checkpoints; 0 for none but the best.
        keep: how many of those are kept.
    """

    def __init__(
        self,
        folder: Path,
        best: BestWeights,
        whole: keras.Model,
        *,
        every: int,
        keep: int,
    ):
        super().__init__()
        self.folder = folder
        self.best = best
        self.whole = whole
        self.every = every
        self.keep = keep

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.best.is_better:
            self._save("best")
        if self.every and (epoch + 1) % self.every == 0:
            self._save(f"epoch_{epoch + 1:05d}")
            for old in sorted(self.folder.glob("epoch_*"))[: -self.keep]:
                old.unlink()

    def _save(self, name: str) -> None:
        with atomic(self.folder / f"{name}.weights.h5") as temporary:
            self.whole.save_weights(temporary)


class HistoryFile(keras.callbacks.Callback):
    """Losses, metrics, rate and time of each epoch as CSV, whole after every epoch.

    With `fold` set, a column of it stands in front; one file holds all folds.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.fold: int | None = None
        self.epochs: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        fold = {} if self.fold is None else {"fold": self.fold}
        self.epochs.append({**fold, "epoch": epoch + 1, **(logs or {})})
        names: Sequence[str] = list(
            dict.fromkeys(n for row in self.epochs for n in row)
        )
        with (
            atomic(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.epochs)
