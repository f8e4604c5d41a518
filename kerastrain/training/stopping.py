"""When training has done enough, and which epoch is kept."""

import math
import time
from typing import Any

import keras
import numpy as np

from kerastrain.config import FitConfig
from kerastrain.errors import ConfigError
from kerastrain.events import note, warn
from kerastrain.schedules import Monitor

__all__ = ["BestWeights", "TimeLimit"]


def _stop(model: keras.Model, reason: str) -> None:
    """End training after this epoch; `Keeper` tells of stops without a reason."""
    model.stop_training = True
    model.stop_reason = reason


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the best epoch, and stops when none gets better.

    Training ends on the weights of the best epoch, whatever ends it.

    Args:
        monitor: name in the logs, such as `val_loss`, and its direction.
        patience: epochs, or "500 steps", without a better value before training stops;
            None never.
        min_delta: by how much a value has to be better for patience; the best epoch is
            the best by however little.
        baseline: patience only begins anew with values better than this.
        target: a value at which training stops.
        keeps_last: the weights of the last epoch are kept.

    Raises:
        ConfigError: an epoch has no such value; it could have no best one.
    """

    remembered = (
        "best", "best_epoch", "best_weights", "is_better", "_reference", "_waited",
        "_seen_steps",
    )  # fmt: skip

    def __init__(
        self,
        monitor: str,
        mode: str,
        patience: int | str | None,
        *,
        min_delta: float = 0.0,
        baseline: float | None = None,
        target: float | None = None,
        keeps_last: bool = False,
    ):
        super().__init__()
        self.monitor = monitor
        self.sign = -1.0 if mode == "max" else 1.0
        self.min_delta = min_delta
        self.target = target
        self.baseline = baseline
        self.keeps_last = keeps_last
        self.is_in_steps = isinstance(patience, str)
        amount = math.inf if patience is None else int(str(patience).split()[0])
        self.patience = amount
        self._begin()

    @classmethod
    def of(cls, monitor: Monitor, fit: FitConfig, *, keeps_last: bool) -> "BestWeights":
        return cls(
            *monitor,
            fit.patience,
            min_delta=fit.min_delta,
            baseline=fit.baseline,
            target=fit.target,
            keeps_last=keeps_last,
        )

    def _begin(self) -> None:
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None
        self.is_better = False
        self._reference = (
            math.inf if self.baseline is None else self.sign * self.baseline
        )
        self._waited = 0
        self._seen_steps = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            name = self.monitor.removeprefix("val_")
            raise ConfigError(
                f"fit.monitor: {name} is not defined on the validation rows, as AUC is "
                "not with one class. Monitor another (--set fit.monitor=loss), or give "
                "more validation rows (--set split.validation=0.3)."
            )
        lower = self.sign * float(value)
        self.is_better = self.best is None or lower < self.sign * self.best
        if self.is_better:
            self.best, self.best_epoch = float(value), epoch
            self.best_weights = self.model.get_weights()
        self._count(lower)
        self._stop_if_due(epoch, lower)

    def _count(self, lower: float) -> None:
        """How long nothing has been better, in epochs or steps."""
        steps = self._num_steps()
        if lower < self._reference - self.min_delta:
            self._reference = lower
            self._waited = 0
        else:
            self._waited += steps - self._seen_steps if self.is_in_steps else 1
        self._seen_steps = steps

    def _num_steps(self) -> int:
        optimizer = getattr(self.model, "optimizer", None)
        return int(optimizer.iterations.numpy()) if optimizer is not None else 0

    def _stop_if_due(self, epoch: int, lower: float) -> None:
        if self.target is not None and lower <= self.sign * self.target:
            _stop(self.model, "target")
            note(
                "target_reached",
                f"Stopped after epoch {epoch + 1}: {self.monitor} reached the target "
                f"of {self.target:g}.",
                epoch=epoch + 1,
            )
        elif self._waited >= self.patience:
            _stop(self.model, "patience")
            unit = "steps" if self.is_in_steps else "epochs"
            kept = (
                ""
                if self.keeps_last
                else (f" The weights are those of epoch {self.best_epoch + 1}.")
            )
            note(
                "stopped_early",
                f"Stopped after epoch {epoch + 1}: {self.monitor} did not improve for "
                f"{self._waited} {unit}.{kept}",
                best_epoch=self.best_epoch + 1,
            )

    def on_train_end(self, logs: Any = None) -> None:
        if self.best_weights is not None and not self.keeps_last:
            self.model.set_weights(self.best_weights)


class TimeLimit(keras.callbacks.Callback):
    """Ends training in good order when its time is over.

    Args:
        seconds: from now; what validation and the last call take is not in it.
    """

    remembered = ("_spent_s",)

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds
        self._spent_s = 0.0
        self._seen_s = time.monotonic()

    def on_train_begin(self, logs: Any = None) -> None:
        self._epoch = 0
        self._is_told = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check()

    def _check(self) -> None:
        now = time.monotonic()
        self._spent_s += now - self._seen_s  # so that a resume goes on counting
        self._seen_s = now
        if self._spent_s < self.seconds or self._is_told:
            return
        self._is_told = True
        _stop(self.model, "time")
        warn(
            "time_limit",
            f"Training stopped in epoch {self._epoch + 1}: its time was over. The best "
            "epoch so far is kept. For more: --time-limit.",
            epoch=self._epoch + 1,
        )
