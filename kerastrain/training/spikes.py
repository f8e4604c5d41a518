"""Losses that jump, counted: they end well more often than not, and tell of a rate that
is too high or of odd rows."""

from collections import deque
from statistics import median
from typing import Any

import keras
import numpy as np

from kerastrain.blocks import Blocks
from kerastrain.events import warn

__all__ = ["Spikes"]

FACTOR = 5.0  # times the median of the calls before
NUM_BEFORE = 50
LEAST_BEFORE = 10


class Spikes(keras.callbacks.Callback):
    """An event for each epoch with calls whose loss is far above that of those before.

    Args:
        blocks: tells how many rows a call has.
    """

    remembered = ("_before", "_found", "_sum", "_rows")

    def __init__(self, blocks: Blocks):
        super().__init__()
        ends = np.cumsum([0, *blocks.step_sizes])
        calls = range(blocks.num_blocks)
        last = [min((c + 1) * blocks.steps_per_call, blocks.num_steps) for c in calls]
        self._ends = [int(ends[step]) for step in last]
        self._blocks = blocks
        self._before: list[float] = []
        self._begin()

    def _begin(self) -> None:
        self._found: list[list[float]] = []
        self._sum = self._rows = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._call: int | None = None  # `Keeper`, who is last, sets where it begins

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._call is None:
            self._call = self._blocks.first_block
            if not self._call:
                self._begin()
        rows = self._ends[self._call]
        total = float((logs or {})["loss"]) * rows  # the log is a mean since the start
        loss = (total - self._sum) / (rows - self._rows)
        self._sum, self._rows = total, rows
        if len(self._before) >= LEAST_BEFORE:
            usual = median(self._before)
            if usual > 0 and loss > FACTOR * usual:
                self._found.append([self._call, loss / usual])
        self._call += 1
        self._before = list(deque([*self._before, loss], maxlen=NUM_BEFORE))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._found:
            return
        call, factor = max(self._found, key=lambda found: found[1])
        step = int(call) * self._blocks.steps_per_call + 1
        count = len(self._found)
        warn(
            "loss_spikes",
            f"The loss jumped {count} time{'s' if count > 1 else ''} in epoch "
            f"{epoch + 1}, to {factor:.0f} times the usual near step {step}. Where "
            "that happens often, try a lower rate or stronger clipping.",
            epoch=epoch + 1,
            count=count,
            factor=factor,
        )
