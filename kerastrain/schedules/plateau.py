"""A learning rate that falls when validation stands still."""

import math
from typing import Any

import keras
from keras import ops

from kerastrain.events import note
from kerastrain.schedules import Monitor, Steps
from kerastrain.schedules.rate import Rate, Schedule, check_share, course_of

__all__ = ["LowerOnPlateau", "plateau"]


def plateau(
    peak: float,
    steps: Steps,
    monitor: Monitor,
    *,
    warmup: float | int | str = 0.0,
    factor: float = 0.3,
    patience: int = 4,
) -> Schedule:
    """Constant rate, multiplied by `factor` when the monitored metric stands still.

    Args:
        warmup: share, steps or epochs ("2 epochs") in which the rate grows.
        factor: what the rate is multiplied by, below 1.
        patience: epochs without a better metric before that happens.
    """
    check_share("plateau.factor", factor)
    schedule = course_of("plateau", steps, warmup).schedule(peak, ops.ones_like)
    rate = schedule.learning_rate
    return Schedule(rate, [LowerOnPlateau(rate, monitor, factor, patience)])


class LowerOnPlateau(keras.callbacks.Callback):
    """Lowers the rate after epochs without a better metric; any gain counts as better.

    Its state goes on over several fits.

    Attributes:
        best: value of the metric so far; None at first.
        num_waited: epochs since then, or since the rate was lowered.
    """

    remembered = ("best", "num_waited")  # what a resumed training gets back

    def __init__(self, rate: Rate, monitor: Monitor, factor: float, patience: int):
        super().__init__()
        self.rate = rate
        self.monitor = monitor
        self.factor = factor
        self.patience = patience
        self.best: float | None = None
        self.num_waited = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = float((logs or {}).get(self.monitor.name, math.nan))
        if self._is_better(value):
            self.best, self.num_waited = value, 0
            return
        self.num_waited += 1
        if self.num_waited >= self.patience:
            self.num_waited = 0
            self._lower(epoch)

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return math.isfinite(value)
        return value < self.best if self.monitor.mode == "min" else value > self.best

    def _lower(self, epoch: int) -> None:
        self.rate.lower(self.factor)
        highest = self.rate.peak * float(ops.convert_to_numpy(self.rate.scale.value))
        note(
            "rate_reduced",
            f"{self.monitor.name} has not got better for {self.patience} "
            f"epoch{'s' if self.patience > 1 else ''}: from epoch {epoch + 2} on the "
            f"learning rate is {highest:.3g}.",
            epoch=epoch + 1,
            rate=highest,
        )
