"""Losses and metrics of every epoch, in a file."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from kerastrain.store import atomic

__all__ = ["HistoryFile"]


class HistoryFile(keras.callbacks.Callback):
    """Losses, metrics, rate and time of each epoch as CSV, whole after every epoch.

    With `fold` set, a column of it stands in front; one file holds all folds.
    """

    remembered = ("fold", "epochs")

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
