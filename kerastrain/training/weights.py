"""Weights on disk while training goes on, for people to load."""

from pathlib import Path
from typing import Any

import keras

from kerastrain.store import atomic
from kerastrain.training.stopping import BestWeights

__all__ = ["Checkpoints"]


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

    remembered = ()

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
