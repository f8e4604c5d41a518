"""When training has done enough, and which epoch is kept."""

from typing import Any

import keras

from kerastrain.errors import ConfigError
from kerastrain.events import note

__all__ = ["BestWeights"]


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
